"""The key of profiling.py that compares the agent in Python with the agent in C: the same file, inputs and library.

Both run a plain session of ONNX Runtime with bound inputs; the agent in C stands on the C API, so that only the
worker's own Python differs. What equal processes differ by on a shared machine is not the code's doing, so the ratio is
reported with its interval and not gated. Where compiler, header or library cannot be had, the ratio is null and
`native_reason` says why.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import profiling_real as real
from profiling_figures import Figure, Figures

from adaptare.core import AdaptareError
from adaptare.devices import Program, connect
from adaptare.profiler.analysis.intervals import Interval, ratio_interval

DEVICES = (real.DEVICE, "ort-native:threads=1")


class DisagreementError(Exception):
    """The two give different outputs."""


@dataclass(frozen=True)
class Opened:
    """A program that was loaded by one of the two.

    Args:
        output: Values of its first output.
        run: Seconds of each of so many calls.
    """

    output: Sequence[float]
    run: Callable[[int], Sequence[float]]


def native(openings: int = 10) -> Figures:
    """P50 of the agent in Python over that of the agent in C, for a chain of products."""
    try:
        with real.chains(real.UNIT) as files:
            (only,) = files.files
            found = compared(files.program(only), openings=openings, rounds=10, calls=10)
    except (AdaptareError, DisagreementError) as error:
        return {"native_ratio": Figure(None, 0), "native_reason": Figure(str(error), 0)}
    ends = {"middle": found.middle, "lower": found.lower, "upper": found.upper}
    return {"native_ratio": Figure(ends, openings)}


def compared(program: Program, *, openings: int, rounds: int, calls: int) -> Interval:
    """Both in turns, in random order: each opening starts both anew, each visit discards its first call."""
    rng = np.random.default_rng(0)
    ratios: list[float] = []
    for _ in range(openings):
        with ExitStack() as stack:
            both = {way: stack.enter_context(opened(DEVICES[way], program)) for way in rng.permutation(2)}
            check_agreement(both[0], both[1])
            for _ in range(rounds):
                medians = {way: np.median(both[way].run(calls + 1)[1:]) for way in rng.permutation(2)}
                ratios.append(float(medians[0] / medians[1]))
    return ratio_interval(np.array(ratios), np.repeat(np.arange(openings), rounds))


@contextmanager
def opened(device: str, program: Program) -> Iterator[Opened]:
    """A new worker."""
    (feed,) = program.feeds
    with connect(device).open() as worker:
        loaded = worker.load(program)
        yield Opened(loaded.outputs[feed.name], lambda calls: worker.run(loaded.program_id, feed.name, calls))


def check_agreement(python: Opened, native: Opened) -> None:
    """Raises unless both found the same."""
    if len(python.output) != len(native.output) or not np.allclose(python.output, native.output, rtol=1e-4, atol=1e-4):
        raise DisagreementError("the two agents disagree on the output, so their times say nothing")
