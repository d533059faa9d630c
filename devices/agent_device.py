"""A device behind an agent, for any runtime and location."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from types import MappingProxyType
from typing import TypedDict, Unpack

from adaptare.core import InputError
from adaptare.devices.agent_worker import AgentWorker, Check
from adaptare.devices.contracts import DeviceInfo, WorkerInfo
from adaptare.devices.transport import CleanedTransport, LocalTransport, Transport

MASK_DIGITS = "0123456789abcdefABCDEF"
FIRST_CALLS = ("left-out", "counted")
NONE: Mapping[str, str] = MappingProxyType({})


class AgentOptions(TypedDict, total=False):
    """Options of every device behind an agent.

    Args:
        threads: Threads inside one operator; default: the physical cores of the device.
        cores: Processors to run on, as a hexadecimal mask like that of `taskset`: `f0` means processors 4 to 7, the
            large ones of many phones; default: all.
        pin: Restricts the worker to as many processors as it has threads, as some applications do; the operating
            system's scheduler then migrates no thread during a call.
        gap_s: Pause before a program runs after another one, seconds; default: 0.05 with several threads, because those
            of the previous program busy-wait for as long, otherwise none.
        first_call: `left-out`: discards the first call of a visit, which reloads weights that other candidates evicted
            from the caches; a process that serves one model never makes such a call. Or `counted`.
        timeout_s: Limit for one load or run, after which the worker counts as hung.
        memory_bytes: Limit of the worker's memory; default: free memory at its start.
        transport: Connection to the device; default: this machine.
    """

    threads: int | None
    cores: str
    pin: bool
    gap_s: float | None
    first_call: str
    timeout_s: float
    memory_bytes: int | None
    transport: Transport | None


# A longer pause lets the processor do nothing for most of a measurement.
LONGEST_GAP_S = 10.0
USUAL = AgentOptions(threads=None, cores="", pin=False, gap_s=None, first_call=FIRST_CALLS[0], timeout_s=120.0)
USUAL |= AgentOptions(memory_bytes=None, transport=None)


class AgentDevice:
    """Starts agents as workers; every fact about the device comes from the agent.

    Args:
        name: Spelling without transport and options, for example `ort-cpu`.
        runtime: Class with which the agent loads programs, as `module:class`.
        options: Passed to its `setup`.
        spelled: Non-default options, as `name=value`, in addition to those of `AgentOptions`.
        described: Options that are always part of `DeviceInfo.options`, in addition to those of `AgentOptions`.
        compared: Opens a comparison of each loaded program, which raises `ProgramError` if its outputs are wrong.
        given: The options.
    """

    def __init__(
        self,
        *,
        name: str,
        runtime: str,
        options: Mapping[str, object] = NONE,
        spelled: Mapping[str, str] = NONE,
        described: Mapping[str, str] = NONE,
        compared: Callable[[], AbstractContextManager[Check | None]] = nullcontext,
        **given: Unpack[AgentOptions],
    ) -> None:
        own: AgentOptions = {**USUAL, **given}
        for option, is_right, rule in (
            ("threads", own["threads"] is None or own["threads"] >= 1, "at least 1"),
            ("cores", not own["cores"].strip(MASK_DIGITS), "a hexadecimal mask as of taskset, for example f0"),
            ("timeout_s", own["timeout_s"] > 0, "above 0"),
            ("memory_bytes", own["memory_bytes"] is None or own["memory_bytes"] >= 1, "at least 1"),
            ("gap_s", own["gap_s"] is None or 0 <= own["gap_s"] <= LONGEST_GAP_S, f"0 to {LONGEST_GAP_S:g}"),
            ("first_call", own["first_call"] in FIRST_CALLS, f"one of {', '.join(FIRST_CALLS)}"),
        ):
            if not is_right:
                raise InputError(f"{option} must be {rule}, not {dict(own)[option]!r}")
        self._own, self._runtime, self._options, self._compared = own, runtime, dict(options), compared
        self._transport = own["transport"] or LocalTransport()
        self._name = f"{self._transport.name}/{name}" if self._transport.name else name
        self._spelled, self._described = {**self._transport.options, **spelled}, dict(described)
        self._facts: WorkerInfo | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._identity(self._facts).device if self._facts else self._name}>"

    def info(self) -> DeviceInfo:
        return self._identity(self._last_facts())

    def capacity_bytes(self) -> int:
        return self._last_facts().free_bytes

    def clean(self) -> int | None:
        """Removes adaptare's files from the device. Returns the bytes freed; `None` if its transport keeps no files.

        Raises:
            DeviceError: The device is not reachable, or its files cannot be removed.
        """
        return self._transport.clean() if isinstance(self._transport, CleanedTransport) else None

    def _last_facts(self) -> WorkerInfo:
        if self._facts is None:
            with self.open() as worker:
                return worker.info
        return self._facts

    @contextmanager
    def open(self) -> Iterator[AgentWorker]:
        """Starts an agent. Raises `InputError` if the device does not support the options."""
        with self._transport.linked(self._runtime) as link, self._compared() as check:
            worker = AgentWorker(link, timeout_s=self._own["timeout_s"], check=check)
            with closing(worker):
                worker.hello(
                    threads=self._own["threads"] or 0,
                    pin=self._own["pin"],
                    cores=self._own["cores"],
                    gap_s=self._own["gap_s"],
                    options=self._options,
                    memory_bytes=self._own["memory_bytes"] or 0,
                )
                self._facts = worker.info
                yield worker

    def _identity(self, facts: WorkerInfo) -> DeviceInfo:
        cores, gap_s, first_call = self._own["cores"], f"{facts.gap_s:g}", self._own["first_call"]
        own = {"cores": cores} if cores else {}
        own |= {"pin": yes_or_no(self._own["pin"]), "gap_s": gap_s, "first_call": first_call}
        usual = {"pin": "no", "first_call": FIRST_CALLS[0]} | ({"gap_s": gap_s} if self._own["gap_s"] is None else {})
        spelled = {**self._spelled, **{name: value for name, value in own.items() if usual.get(name) != value}}
        options = ",".join(f"{option}={value}" for option, value in {"threads": facts.threads, **spelled}.items())
        return DeviceInfo(
            device=f"{self._name}:{options}",
            hardware=facts.hardware,
            runtime=facts.runtime,
            threads=facts.threads,
            options=tuple(sorted(f"{option}={value}" for option, value in {**self._described, **own}.items())),
            cache_bytes=facts.cache_bytes,
        )


def yes_or_no(value: bool) -> str:
    """Spelling of a flag among device options."""
    return "yes" if value else "no"
