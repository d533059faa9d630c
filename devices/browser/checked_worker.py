"""Comparison of a page's outputs with those of ONNX Runtime on this machine, before anything is timed."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from adaptare.core import AdaptareError, ProgramError
from adaptare.devices.agent_worker import AgentWorker
from adaptare.devices.contracts import Loaded, Worker, WorkerInfo
from adaptare.devices.onnx_runtime import ort_cpu
from adaptare.devices.program import Program, canonical_json

# Largest difference relative to the largest value of the host (at least 1).
TOLERANCE = 1e-4
# The host computes each output once, so preparation is not worth its time.
ONCE = canonical_json({"prepared": False})


class HostOutputs:
    """Outputs of programs on this machine, each computed once.

    Args:
        known: Hash of a program -> feed name -> outputs, as in `Loaded.outputs`; filled here.
        stack: Ends the worker that computes them, which is started when it is needed.
    """

    def __init__(self, known: dict[str, Mapping[str, Sequence[float]]], stack: ExitStack) -> None:
        self._known = known
        self._stack = stack
        self._worker: Worker | None = None

    def of(self, program: Program) -> Mapping[str, Sequence[float]]:
        """Feed name -> outputs. Raises `ProgramError`, or `DeviceError` if no worker can be started."""
        if program.hash not in self._known:
            if self._worker is None:
                self._worker = self._stack.enter_context(ort_cpu(threads=1).open())
            try:
                loaded = self._worker.load(replace(program, arguments=ONCE, others_bytes=0, between_bytes=0))
            except ProgramError as error:
                raise ProgramError(f"this machine has no outputs to compare those of the page with: {error}") from error
            self._worker.unload(loaded.program_id)
            self._known[program.hash] = loaded.outputs
        return self._known[program.hash]


class CheckedWorker:
    """A worker that loads a program only if its outputs equal those of this machine.

    Args:
        worker: Worker of the page.
        host: Outputs to compare with.
    """

    def __init__(self, worker: AgentWorker, host: HostOutputs) -> None:
        self._worker = worker
        self._host = host

    @property
    def info(self) -> WorkerInfo:
        return self._worker.info

    def load(self, program: Program) -> Loaded:
        """Loads a program. Raises `ProgramError` if its outputs differ."""
        loaded = self._worker.load(program)
        try:
            self._compare(program, loaded)
        except AdaptareError:
            self._worker.unload(loaded.program_id)
            raise
        return loaded

    def _compare(self, program: Program, loaded: Loaded) -> None:
        expected = self._host.of(program)
        for feed, outputs in loaded.outputs.items():
            difference = _largest_difference(outputs, expected[feed])
            if not difference <= TOLERANCE:
                raise ProgramError(
                    f"outputs in the browser differ from those of this machine by {difference:.2g} "
                    f"(allowed: {TOLERANCE:g}); not timed"
                )

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        return self._worker.run(program_id, feed_id, calls)

    def unload(self, program_id: str) -> None:
        self._worker.unload(program_id)

    def environment(self) -> Mapping[str, Any]:
        return self._worker.environment()


def _largest_difference(outputs: Sequence[float], expected: Sequence[float]) -> float:
    if len(outputs) != len(expected):
        return float("inf")
    largest = max([1.0, *map(abs, expected)])
    return max((abs(ours - theirs) for ours, theirs in zip(outputs, expected, strict=True)), default=0.0) / largest
