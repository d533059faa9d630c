"""The keys of profiling.py that are measured on this machine: small ONNX programs whose work is known exactly."""

import itertools
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from profiling_figures import Figure, Figures
from transformers import LlamaConfig

from adaptare.core.content_hash import canonical_json
from adaptare.devices import Device, Feed, Program, Work, Worker, connect, program_file
from adaptare.profiler import FixedRounds, Measurement, ModelShape, Need, Workload, precise_within, profile
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.measuring.stopping import StoppingRule
from adaptare.profiler.store.measurement import overhead

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=16)
)
ROWS, WIDTH = 64, 256
INPUTS = {"x": {"dtype": "float32", "shape": [ROWS, WIDTH], "uniform": 1.0, "seed": 0}}
# Products of a unit of work; one more is five percent.
UNIT = 20
GAP_S = 0.03
DEVICE = "ort-cpu:threads=1"
# Half-width and seconds that are enough to see five percent.
DETECT_HALF_WIDTH, DETECT_S = 0.01, 8.0


def workload(number: int) -> Workload:
    """Stands for a file; none of them has an adapter."""
    return Workload(SHAPE, mode="merged", past=number)


@dataclass(frozen=True)
class Files:
    """Programs that are given: workload -> file."""

    files: Mapping[Workload, Path]

    def modes(self, workload: Workload) -> tuple[Any, ...]:
        return ("merged",)

    def check(self, workload: Workload) -> None:
        """Accepts every file."""

    def need(self, workload: Workload) -> Need:
        return Need(str(self.files[workload]), 2**20, 0)

    def disk_bytes(self, base: Workload) -> int:
        return self.files[base].stat().st_size

    def program(self, workload: Workload) -> Program:
        feed, file = Feed(workload.hash, canonical_json({"inputs": INPUTS}), Work(1, 1, 1)), self.files[workload]
        return Program(file.name, file.name, "{}", (feed,), (program_file(file),), 2**20)

    def merged_reference(self, workload: Workload) -> Program:
        """The program itself, as nothing is compared."""
        return self.program(workload)

    def unrounded(self, workload: Workload) -> Program:
        return self.program(workload)


def write_chain(file: Path, products: int, width: int = WIDTH) -> Path:
    """So many products one after the other, each with weights of its own."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((width, width), dtype=np.float32) / np.sqrt(width) for _ in range(products)]
    names = ["x", *(f"y{number}" for number in range(products))]
    nodes = [
        helper.make_node("MatMul", [before, f"w{number}"], [after])
        for number, (before, after) in enumerate(itertools.pairwise(names))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, width]) for name in (names[0], names[-1])]
    constants = [numpy_helper.from_array(each.astype(np.float32), f"w{number}") for number, each in enumerate(weights)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


@contextmanager
def background_load() -> Iterator[None]:
    """One process that is always busy, and one that is busy half of the time."""
    context = multiprocessing.get_context("spawn")
    loads = [context.Process(target=_busy, args=(share, os.getpid()), daemon=True) for share in (1.0, 0.5)]
    for load in loads:
        load.start()
    time.sleep(1)
    try:
        yield
    finally:
        for load in loads:
            load.kill()
            load.join()


def _busy(share: float, parent: int) -> None:
    """Until it is killed, or who started it is gone."""
    while os.getppid() == parent:
        until = time.perf_counter() + 0.02 * share
        while time.perf_counter() < until:
            pass
        if share < 1:
            time.sleep(0.02 * (1 - share))


@contextmanager
def chains(*products: int) -> Iterator[Files]:
    """Files of so many products each, for workloads 0, 1, ..."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        yield Files({workload(n): write_chain(folder / f"{n}.onnx", count) for n, count in enumerate(products)})


def measured(
    files: Files, stop: StoppingRule, seed: int, *, openings: int | None = None, device: Device | None = None
) -> list[Measurement]:
    """All but the first beside the first."""
    reference, *others = files.files
    return profile(
        others,
        reference=reference,
        device=device or connect(DEVICE),
        stop=stop,
        seed=seed,
        openings=openings,
        programs=files,
    )


def detect(trials: int = 20) -> Figures:
    """Five percent more work, measured once with the usual rule: found or not, when, and how exactly."""
    seconds, found = list[float](), list[Interval]()
    with chains(UNIT, UNIT, UNIT + 1) as files:
        for trial in range(trials):
            started = time.monotonic()
            plain, more = measured(files, precise_within(DETECT_HALF_WIDTH, DETECT_S), trial)
            seconds.append(time.monotonic() - started)
            found.append(overhead(more, plain))
    return {
        "detect_5pct": Figure(float(np.mean([each.lower > 0 for each in found])), trials),
        "accuracy_5pct": Figure(float(np.mean([0.04 <= each.middle <= 0.06 for each in found])), trials),
        "detect_5pct_seconds": Figure(spread(seconds), trials),
        "detect_5pct_overhead": Figure(spread([each.middle for each in found]), trials),
    }


def spread(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Median and the tenth and ninetieth percentile."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"median": float(middle), "p10": float(low), "p90": float(high)}


@dataclass(frozen=True)
class Pausing:
    """A device that rests before every visit to some of its feeds."""

    device: Device
    feeds: frozenset[str]

    def info(self) -> Any:
        return self.device.info()

    def capacity_bytes(self) -> int:
        return self.device.capacity_bytes()

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with self.device.open() as worker:
            yield PausingWorker(worker, self.feeds)


class PausingWorker:
    """A worker that rests before every visit to some of its feeds."""

    def __init__(self, worker: Worker, feeds: frozenset[str]) -> None:
        self._worker, self._feeds = worker, feeds
        self.info, self.load, self.unload = worker.info, worker.load, worker.unload

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        if feed_id in self._feeds:
            time.sleep(GAP_S)
        return self._worker.run(program_id, feed_id, calls)


def order_bias(openings: int = 12) -> Figures:
    """Points between the same difference with and without a pause before every visit; the usual fixed order beside it.

    Each of the two programs has a feed that is paused for and one that is not, so that both differences come from the
    same openings, whose luck would else be larger than the bias. What is left is the luck of the feeds' own memory,
    against which only many openings help.
    """
    with chains(UNIT, UNIT, UNIT + 1) as files:
        _, plain, more = files.files
        resting = {workload(3): files.files[plain], workload(4): files.files[more]}
        device = Pausing(connect(DEVICE), frozenset(each.hash for each in resting))
        every = Files({**files.files, **resting})
        found = measured(every, FixedRounds(12), 0, openings=openings, device=device)
        without, with_gaps = (overhead(found[at + 1], found[at]).middle for at in (0, 2))
        naive = statistics.median(_fixed_order(files) for _ in range(openings // 3))
    return {
        "order_bias_points": Figure(100 * abs(with_gaps - without), openings),
        "order_bias_fixed_order_points": Figure(100 * abs(naive - 1 - without), openings // 3),
    }


def _fixed_order(files: Files, windows: int = 40) -> float:
    """A B B A after a pause, first calls included, median over median."""
    _, plain, more = files.files
    samples: dict[Workload, list[float]] = {plain: [], more: []}
    with connect(DEVICE).open() as worker:
        ids = {each: worker.load(files.program(each)).program_id for each in samples}
        for _ in range(windows):
            time.sleep(GAP_S)
            for each in (plain, more, more, plain):
                samples[each] += worker.run(ids[each], each.hash, 1)
    return statistics.median(samples[more]) / statistics.median(samples[plain])


def same_file_twice(sessions: int = 6, pairs: int = 5, openings: int = 6) -> Figures:
    """Comparisons of one file with its copy: there is nothing to be found."""
    with tempfile.TemporaryDirectory() as place:
        first = write_chain(Path(place) / "0.onnx", UNIT)
        copies = [Path(shutil.copy(first, Path(place) / f"{number}.onnx")) for number in range(1, 2 * pairs + 1)]
        files = Files({workload(number): file for number, file in enumerate([first, *copies])})
        found = [each for session in range(sessions) for each in _compared(files, session, openings)]
    different = float(np.mean([not each.contains(0.0) for each in found]))
    return {
        "aa_false_positive_real": Figure(different, len(found)),
        "aa_real_spread": Figure(spread([each.middle for each in found]), len(found)),
    }


def _compared(files: Files, seed: int, openings: int) -> list[Interval]:
    """All but the first, two by two, in one session."""
    found = measured(files, FixedRounds(4), seed, openings=openings)
    return [overhead(one, other) for one, other in zip(found[::2], found[1::2], strict=True)]


def harness(calls: int = 20000) -> Figures:
    """Microseconds of a sample beside the call itself: clock, loop, and its way back to the host."""
    with chains(1) as files, connect(DEVICE).open() as worker:
        (only,) = files.files
        loaded = worker.load(files.program(only))
        worker.run(loaded.program_id, only.hash, calls)
        started = time.perf_counter()
        inside_s = sum(worker.run(loaded.program_id, only.hash, calls))
        elapsed_s = time.perf_counter() - started
    return {"harness_overhead_us": Figure(1e6 * (elapsed_s - inside_s) / calls, calls)}
