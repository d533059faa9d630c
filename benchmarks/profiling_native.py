"""The key of profiling.py that compares the worker with a loop in C: the same file and inputs, a plain session.

The loop stands on the C API of ONNX Runtime and on the library that comes with the installed package, so that only the
worker's own Python differs. What equal processes differ by on a shared machine is not the code's doing, so the ratio is
reported with its interval and not gated. Its header comes from Debian's package, which is downloaded into a temporary
folder where it is not installed; where header, compiler or library cannot be had, the ratio is null and `native_reason`
says why.
"""

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import profiling_real as real
from onnx import helper
from profiling_figures import Figure, Figures

from adaptare.devices import Program, connect
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Interval, ratio_interval

THREADS = 1
SOURCE = Path(__file__).with_name("native_loop.c")
HEADER = "onnxruntime_c_api.h"
PACKAGE = "libonnxruntime-dev"
INCLUDES = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime", "/usr/local/include")


class NativeLoopError(Exception):
    """The loop in C cannot be built or does not run."""


@dataclass(frozen=True)
class Opened:
    """A program that was loaded by one of the two.

    Args:
        output: Values of its first output.
        run: Seconds of each of so many calls.
    """

    output: Sequence[float]
    run: Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Loop:
    """The built loop.

    Args:
        binary: What is run.
        library: The package's own shared library.
    """

    binary: Path
    library: Path

    @contextmanager
    def opened(self, program: Program, inputs: Path) -> Iterator[Opened]:
        """A new process."""
        (file,) = program.files
        command = [str(self.binary), str(self.library), str(file.path), str(inputs), str(THREADS)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            ready, *values = _answer(process)
            if ready != "ready":
                raise NativeLoopError(f"the native loop said {ready!r} instead of being ready")

            def run(calls: int) -> list[float]:
                print(calls, file=process.stdin, flush=True)
                return [1e-9 * int(duration) for duration in _answer(process)]

            yield Opened([float(value) for value in values], run)


def _answer(process: "subprocess.Popen[str]") -> list[str]:
    """The words of its next line."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        said = process.stderr.read() if process.stderr else ""
        raise NativeLoopError(f"the native loop ended: {said.strip() or 'it said nothing'}")
    return line.split()


def native(openings: int = 10) -> Figures:
    """P50 of the worker over that of the loop, for a chain of products."""
    try:
        with built() as loop, real.chains(real.UNIT) as files:
            (only,) = files.files
            found = compared(loop, files.program(only), openings=openings, rounds=10, calls=10)
    except NativeLoopError as error:
        return {"native_ratio": Figure(None, 0), "native_reason": Figure(str(error), 0)}
    ends = {"middle": found.middle, "lower": found.lower, "upper": found.upper}
    return {"native_ratio": Figure(ends, openings)}


def compared(loop: Loop, program: Program, *, openings: int, rounds: int, calls: int) -> Interval:
    """Both in turns, in random order: each opening starts both anew, each visit discards its first call."""
    rng = np.random.default_rng(0)
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        inputs = write_inputs(Path(place) / "inputs", program)
        for _ in range(openings):
            with ExitStack() as stack:
                ways = (lambda: worker_opened(program), lambda: loop.opened(program, inputs))
                both = {way: stack.enter_context(ways[way]()) for way in rng.permutation(2)}
                check_agreement(both[0], both[1])
                for _ in range(rounds):
                    medians = {way: np.median(both[way].run(calls + 1)[1:]) for way in rng.permutation(2)}
                    ratios.append(float(medians[0] / medians[1]))
    return ratio_interval(np.array(ratios), np.repeat(np.arange(openings), rounds))


@contextmanager
def worker_opened(program: Program) -> Iterator[Opened]:
    """A new worker."""
    (feed,) = program.feeds
    with connect(real.DEVICE).open() as worker:
        loaded = worker.load(program)
        yield Opened(loaded.outputs[feed.name], lambda calls: worker.run(loaded.program_id, feed.name, calls))


def check_agreement(ours: Opened, native: Opened) -> None:
    """Raises unless both found the same."""
    if len(ours.output) != len(native.output) or not np.allclose(ours.output, native.output, rtol=1e-4, atol=1e-4):
        raise NativeLoopError("worker and native loop disagree on the output, so their times say nothing")


def write_inputs(file: Path, program: Program) -> Path:
    """The arrays that the worker makes for the only feed, as the loop reads them."""
    (feed,) = program.feeds
    specs = json.loads(feed.arguments)["inputs"]
    with file.open("wb") as out:
        out.write(b"%d\n" % len(specs))
        for name, spec in specs.items():
            values = np.ascontiguousarray(filled(name, spec))
            kind = helper.np_dtype_to_tensor_dtype(values.dtype)
            out.write(" ".join(map(str, [name, kind, values.nbytes, values.ndim, *values.shape])).encode() + b"\n")
            out.write(values.tobytes())
    return file


@contextmanager
def built() -> Iterator[Loop]:
    """The loop, until the context ends. Raises `NativeLoopError` where something for it is missing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        library, binary = _library(), folder / "native_loop"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise NativeLoopError("there is no compiler; install gcc")
        _command([compiler, "-O2", "-I", str(_headers(folder)), str(SOURCE), "-o", str(binary), "-ldl"], folder)
        yield Loop(binary, library)


def _library() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path()
    found = sorted(folder.glob("libonnxruntime.so.*"))
    if not found:
        raise NativeLoopError("the installed onnxruntime brings no libonnxruntime.so; install its wheel for Linux")
    return found[0]


def _headers(folder: Path) -> Path:
    """Folder of the header: an installed one, else out of Debian's package."""
    known = [Path(place) for place in INCLUDES if (Path(place) / HEADER).exists()]
    if known:
        return known[0]
    _command(["apt-get", "download", PACKAGE], folder)
    for package in folder.glob("*.deb"):
        _command(["dpkg", "-x", package.name, "unpacked"], folder)
    found = [file.parent for file in folder.rglob(HEADER)]
    if not found:
        raise NativeLoopError(f"{PACKAGE} holds no {HEADER}")
    return found[0]


def _command(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except OSError as error:
        raise NativeLoopError(f"{command[0]} does not run: {error}; {HEADER} is in {PACKAGE}") from error
    except subprocess.CalledProcessError as error:
        raise NativeLoopError(f"{' '.join(command[:3])} failed: {error.stderr.strip()}") from error
