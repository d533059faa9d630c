"""The keys of profiling.py that are measured on this machine: small ONNX programs whose work is known exactly."""

import itertools
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy import stats
from transformers import LlamaConfig

from adaptare.devices import Device, Feed, Program, Work, Worker, canonical_json, connect, ort_runtime
from adaptare.devices import agent as agent_module
from adaptare.devices.ort_runtime import CPU
from adaptare.profiler import (
    FixedRounds,
    Interval,
    Measurement,
    ModelShape,
    Need,
    Workload,
    overhead,
    profile,
)

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=16)
)
ROWS, WIDTH = 64, 256
INPUTS = {"x": {"dtype": "float32", "shape": [ROWS, WIDTH], "normal": 1.0, "seed": 0}}
# So many products are a unit of work; one more is five percent.
UNIT = 20
GAP_S = 0.03
# About as long as a round of the reference and two or three others takes.
ROUND_S = 0.08
# Openings at first, and where intervals are wide; with fewer than four, knowing their spread takes too much of it.
FEW, MANY = 4, 6
DEVICE = "ort-cpu:threads=1"
# What that device tells its worker.
SETUP = {"provider": CPU, "threads": 1, "spinning": True, "flush_denormals": False}


def workload(number: int) -> Workload:
    """Stands for a file; none of them has an adapter."""
    return Workload(SHAPE, mode="merged", past=number)


@dataclass(frozen=True)
class Files:
    """Programs that are given: workload -> file."""

    files: Mapping[Workload, Path]

    def modes(self, workload: Workload) -> tuple[Any, ...]:
        """See `Programs.modes`."""
        return ("merged",)

    def need(self, workload: Workload) -> Need:
        """See `Programs.need`."""
        return Need(str(self.files[workload]), 2**20, 0)

    def disk_bytes(self, base: Workload) -> int:
        """See `Programs.disk_bytes`."""
        return self.files[base].stat().st_size

    def program(self, workload: Workload) -> Program:
        """See `Programs.program`."""
        feed = Feed(workload.hash, canonical_json({"inputs": INPUTS}), Work(1, 1, 1))
        return Program(self.files[workload].name, str(self.files[workload]), "{}", (feed,), 2**20)

    def twin(self, workload: Workload) -> Program:
        """See `Programs.twin`; nothing is compared with itself."""
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


def measured(files: Files, seconds: float, openings: int, seed: int, device: Device | None = None) -> list[Measurement]:
    """All but the first beside the first, for about so many seconds in each opening."""
    reference, *others = files.files
    stop = FixedRounds(max(8, round(seconds / ROUND_S)))
    return profile(
        others,
        reference=reference,
        device=device or connect(DEVICE),
        stop=stop,
        seed=seed,
        openings=openings,
        reference_s=1.0,
        programs=files,
    )


def detect(trials: int = 40, within: float = 0.015) -> dict[str, Any]:
    """Five percent more work: whether, when and how exactly it is seen. Wide intervals are measured once more."""
    seconds, middles, again = [], [], 0
    with chains(UNIT, UNIT, UNIT + 1) as files:
        for trial in range(trials):
            started, seen_s = time.monotonic(), float("inf")
            for openings, each_s in ((FEW, 0.4), (MANY, 1.0)):
                plain, more = measured(files, each_s, openings, trial)
                difference = overhead(more, plain)
                if difference.lower > 0:
                    seen_s = min(seen_s, time.monotonic() - started)
                    if difference.upper - difference.lower <= 2 * within:
                        break
            again += openings == MANY
            seconds.append(seen_s)
            middles.append(1 + difference.middle)
    return {
        "detect_5pct": float(np.mean(np.array(seconds) <= 20)),
        "detect_5pct_median_s": statistics.median(seconds),
        "detect_5pct_again": again / trials,
        "accuracy_5pct": float(np.mean([1.04 <= middle <= 1.06 for middle in middles])),
    }


@dataclass(frozen=True)
class Pausing:
    """A device that rests before every visit to some of its feeds."""

    device: Device
    feeds: frozenset[str]

    def info(self) -> Any:
        """See `Device.info`."""
        return self.device.info()

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """See `Device.open`."""
        with self.device.open() as worker:
            yield PausingWorker(worker, self.feeds)


class PausingWorker:
    """A worker that rests before every visit to some of its feeds."""

    def __init__(self, worker: Worker, feeds: frozenset[str]) -> None:
        self._worker, self._feeds = worker, feeds
        self.info, self.load, self.unload = worker.info, worker.load, worker.unload

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        """See `Worker.run`."""
        if feed_id in self._feeds:
            time.sleep(GAP_S)
        return self._worker.run(program_id, feed_id, calls)


def order_bias(openings: int = 12) -> dict[str, Any]:
    """The same difference with and without a pause before every visit; the usual fixed order beside it.

    Each of the two programs has a feed that is paused for and one that is not, so that both differences come from the
    same openings, whose luck would else be larger than the bias. What is left is the luck of the feeds' own memory,
    against which only many openings help.
    """
    with chains(UNIT, UNIT, UNIT + 1) as files:
        _, plain, more = files.files
        resting = {workload(3): files.files[plain], workload(4): files.files[more]}
        device = Pausing(connect(DEVICE), frozenset(each.hash for each in resting))
        found = measured(Files({**files.files, **resting}), 1.5, openings, 0, device)
        without, with_gaps = (overhead(found[at + 1], found[at]).middle for at in (0, 2))
        naive = statistics.median(_fixed_order(files) for _ in range(openings // 3))
    return {
        "order_bias_points": 100 * abs(with_gaps - without),
        "order_bias_fixed_order_points": 100 * abs(naive - 1 - without),
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


def visit_bias(openings: int = 8) -> dict[str, Any]:
    """Two sessions of the same 2.4 MB of weights, of which one has two feeds and so is visited twice a round."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        first = write_chain(folder / "0.onnx", 9)
        copies = [Path(shutil.copy(first, folder / f"{number}.onnx")) for number in (1, 2)]
        files = Files(dict(zip(map(workload, range(4)), [first, copies[0], copies[0], copies[1]], strict=True)))
        twice, _, once = measured(files, 2.0, openings, 0)
    return {"visit_bias": abs(overhead(twice, once).middle)}


def same_file_twice(sessions: int = 12, pairs: int = 5, openings: int = 6) -> dict[str, Any]:
    """Comparisons of one file with its copy: there is nothing to be found. A few are made in small pages, too."""
    with tempfile.TemporaryDirectory() as place:
        first = write_chain(Path(place) / "0.onnx", UNIT)
        copies = [Path(shutil.copy(first, Path(place) / f"{number}.onnx")) for number in range(1, 2 * pairs + 1)]
        files = Files({workload(number): file for number, file in enumerate([first, *copies])})
        found = [each for session in range(sessions) for each in _compared(files, session, openings)]
        with patch.dict(os.environ, GLIBC_TUNABLES=""):  # memory as the system gives it by default
            small = [each for session in range(-(-sessions // 4)) for each in _compared(files, session, openings)]
    trials, different = len(found), sum(not each.contains(0.0) for each in found)
    return {
        "aa_real_trials": trials,
        "aa_false_positive_real": different / trials,
        "aa_false_positive_real_p": float(stats.binomtest(different, trials, 0.05).pvalue),
        "aa_real_spread": float(np.std([each.middle for each in found])),
        "aa_real_spread_small_pages": float(np.std([each.middle for each in small])),
    }


def _compared(files: Files, seed: int, openings: int) -> list[Interval]:
    """All but the first, two by two, in one session."""
    reference, *others = files.files
    found = profile(
        others,
        reference=reference,
        device=connect(DEVICE),
        stop=FixedRounds(4),
        seed=seed,
        openings=openings,
        programs=files,
    )
    return [overhead(one, other) for one, other in zip(found[::2], found[1::2], strict=True)]


def harness(calls: int = 20000) -> dict[str, Any]:
    """What a sample costs beside the call itself: clock, loop, and its way back to whoever asked."""
    with chains(1) as files, connect(DEVICE).open() as worker:
        (only,) = files.files
        loaded = worker.load(files.program(only))
        worker.run(loaded.program_id, only.hash, calls)
        started = time.perf_counter()
        inside_s = sum(worker.run(loaded.program_id, only.hash, calls))
        elapsed_s = time.perf_counter() - started
    return {"harness_overhead_us": 1e6 * (elapsed_s - inside_s) / calls}


def other_timers(rounds: int = 120, calls: int = 4) -> dict[str, Any]:
    """The same call of some 5 ms timed by the agent's loop, by timeit and by torch.utils.benchmark, in turns.

    The agent brings the way into the runtime back into the caches before it looks at the clock, and the others do not;
    torch's does more between two calls besides. A call of 1 ms still shows that on some machines.
    """
    from torch.utils.benchmark import Timer

    ort_runtime.setup(SETUP)
    agent = agent_module.Agent(ort_runtime)
    with chains(5 * UNIT) as files:
        (only,) = files.files
        feed = {"name": "x", "arguments": {"inputs": INPUTS}}
        program = {"program_id": "p", "source": str(files.files[only]), "arguments": {}, "feeds": [feed]}
        agent.load({**program, "moved_bytes": 0, "others_bytes": 0, "between_bytes": 0})
    call, _ = agent.feeds["p"]["x"]
    torch_timer, standard = Timer("call()", globals={"call": call}), timeit.Timer("call()", globals={"call": call})
    ways: dict[str, Callable[[], float]] = {
        "agent": lambda: statistics.median(agent.run({"program_id": "p", "feed_id": "x", "calls": calls})["seconds"]),
        "timeit": lambda: statistics.median(standard.repeat(calls, 1)),
        "torch": lambda: statistics.median(torch_timer.timeit(1).median for _ in range(calls)),
    }
    rng, seconds = np.random.default_rng(0), {name: list[float]() for name in ways}
    for _ in range(rounds):
        for name in rng.permutation(list(ways)):
            seconds[name].append(ways[name]())
    ours = np.array(seconds["agent"])
    return {f"timeit_ratio_{name}": float(np.median(ours / np.array(seconds[name]))) for name in ("timeit", "torch")}
