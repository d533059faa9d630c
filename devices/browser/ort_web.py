"""ONNX Runtime Web in a page, whose outputs are compared with those of this machine before anything is timed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypedDict, Unpack

from adaptare.core import InputError, ProgramError, WorkerDiedError
from adaptare.core.content_hash import canonical_json
from adaptare.devices.agent_device import USUAL, AgentDevice
from adaptare.devices.agent_worker import Check
from adaptare.devices.browser.transport import RUNTIME, BrowserTransport
from adaptare.devices.contracts import Loaded, Worker
from adaptare.devices.onnx_runtime import GRAPH, ort_cpu
from adaptare.devices.program import Program
from adaptare.devices.transport import Transport

BACKENDS = ("wasm", "webgpu")
# Largest difference relative to the largest value of the host (at least 1).
TOLERANCE = 1e-4
# The host computes each output once, so preparation is not worth its time.
ONCE = canonical_json({"prepared": False})


class WebOptions(TypedDict, total=False):
    """Options of `AgentOptions` that a page supports."""

    threads: int | None
    gap_s: float | None
    timeout_s: float
    memory_bytes: int | None


class HostOutputs:
    """Outputs of programs on this machine: each is computed once, by a worker that is started when it is needed.

    Args:
        timeout_s: Limit for one load.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._known: dict[str, Mapping[str, Sequence[float]]] = {}
        self._worker: Worker | None = None
        self._stack = ExitStack()  # of the present context

    @contextmanager
    def compared(self) -> Iterator[Check]:
        """The comparison with a program loaded elsewhere. The worker ends with the context; outputs stay known."""
        with ExitStack() as self._stack:
            self._worker = None
            yield self._check

    def _check(self, program: Program, loaded: Loaded) -> None:
        for feed, expected in (self._known.get(program.hash) or self._computed(program)).items():
            difference = _largest_difference(loaded.outputs.get(feed, ()), expected)
            if not difference <= TOLERANCE:
                raise ProgramError(
                    f"outputs in the browser differ from those of this machine by {difference:.2g} "
                    f"(allowed: {TOLERANCE:g}); not timed"
                )

    def _computed(self, program: Program) -> Mapping[str, Sequence[float]]:
        if self._worker is None:
            self._worker = self._stack.enter_context(ort_cpu(threads=1, timeout_s=self._timeout_s).open())
        try:
            loaded = self._worker.load(replace(program, arguments=ONCE, others_bytes=0, between_bytes=0))
            self._worker.unload(loaded.program_id)
        except ProgramError as error:
            if isinstance(error, WorkerDiedError):
                self._stack.close()
                self._worker = None
            raise ProgramError(f"this machine has no outputs to compare those of the page with: {error}") from error
        self._known[program.hash] = loaded.outputs
        return loaded.outputs


def ort_web(
    *,
    backend: str = BACKENDS[0],
    transport: Transport | None = None,
    **options: Unpack[WebOptions],
) -> AgentDevice:
    """Device that runs ONNX files in a page, each as a plain `InferenceSession`; every call copies its inputs.

    Each worker has a WebAssembly memory of its own, of at most 4 GiB. The clock of browsers has coarse steps: calls
    shorter than 100 steps are timed together, and each is given their mean.

    Args:
        backend: `wasm`, which runs on the processor, or `webgpu`.
        options: As for `AgentDevice`. The default of `threads` is that of the library, half of the processors, at most
            4; a page that is not isolated has one. `memory_bytes` limits the WebAssembly memory.
    """
    if not isinstance(transport, BrowserTransport):
        raise InputError("ort-web runs in a page: start its server (serve); the device is browser:NAME")
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return AgentDevice(
        name=transport.usual,
        runtime=RUNTIME,
        options={"backend": backend},
        spelled={"backend": backend} if backend != BACKENDS[0] else {},
        described={"backend": backend, "graph": GRAPH, "timed_steps": "100"},
        compared=HostOutputs(options.get("timeout_s", USUAL["timeout_s"])).compared,
        transport=transport,
        **options,
    )


def _largest_difference(outputs: Sequence[float], expected: Sequence[float]) -> float:
    if len(outputs) != len(expected) or any(map(math.isnan, outputs)):
        return math.inf
    largest = max([1.0, *map(abs, expected)])
    return max((abs(ours - theirs) for ours, theirs in zip(outputs, expected, strict=True)), default=0.0) / largest
