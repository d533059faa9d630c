"""Registry that maps the spelling of a device, `[TRANSPORT:TARGET/]RUNTIME[:options]`, to the device."""

import importlib.metadata
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from adaptare.devices.contracts import Device, DeviceInfo, WorkerInfo
from adaptare.devices.errors import AdaptareError, InputError
from adaptare.devices.transport import Transport

ENTRY_POINTS = "adaptare.devices"
TRANSPORTS = "adaptare.transports"


@dataclass(frozen=True)
class Reach:
    """Reachability of a device.

    Args:
        name: Spelling without options.
        info: Identity, if it is reachable.
        told: Facts reported by its worker.
        problem: Reason it is not reachable, and what to do.
    """

    name: str
    info: DeviceInfo | None
    told: WorkerInfo | None = None
    problem: str = ""


def connect(spelling: str) -> Device:
    """The device with a given spelling, for example `torch-cpu:threads=1,pin=no` or `ssh://user@host/ort-cpu`.

    Raises:
        InputError: The transport or the runtime is unknown, or an option is unknown or has a value of the wrong type.
    """
    transport, runtime, options = _parts(spelling)
    entry = _entries().get(runtime)
    if entry is None:
        raise InputError(f"unknown device {spelling!r}; known are {', '.join(sorted(_entries()))}")
    build: Callable[..., Device] = entry.load()
    signature = _signature(build)
    given = _parse(spelling, options, signature)
    if transport is not None:
        if "transport" not in signature.parameters:
            raise InputError(f"device {spelling!r}: {runtime} exists only on this machine; leave the transport out")
        given["transport"] = transport
    return build(**given)


def split_spelling(spelling: str) -> tuple[str, str]:
    """Device with its transport, and options: of `ssh://user@host/ort-cpu:int4` the latter are `int4`."""
    transport, runtime, options = _parts(spelling)
    return (f"{transport.name}/{runtime}" if transport else runtime), options


def _parts(spelling: str) -> tuple[Transport | None, str, str]:
    """Transport, if one is named, runtime, and options."""
    scheme, colon, rest = spelling.partition(":")
    entries = _entries(TRANSPORTS)
    placed = "/" in rest.removeprefix("//") or scheme in entries
    if not colon or not placed or scheme in _entries():
        return None, *_runtime(spelling)
    if scheme not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise InputError(f"device {spelling!r}: the transport {scheme!r} is unknown; known are {known}")
    slashes = "//" if rest.startswith("//") else ""
    target, _, local = rest.removeprefix(slashes).partition("/")
    transport: Transport = entries[scheme].load()(target)
    return transport, *_runtime(local or transport.usual)


def _runtime(local: str) -> tuple[str, str]:
    runtime, _, options = local.partition(":")
    return runtime, options


def _signature(build: Callable[..., Device]) -> inspect.Signature:
    """Parameters that are not fixed yet, with annotations resolved to types if all their names are imported."""
    try:
        signature = inspect.signature(build, eval_str=True)
    except NameError:
        signature = inspect.signature(build)
    fixed = build.keywords if isinstance(build, partial) else {}
    return signature.replace(parameters=[each for name, each in signature.parameters.items() if name not in fixed])


def reachable() -> list[Reach]:
    """Every registered device, and those that transports find, with facts from a worker started for this.

    An unavailable one comes with the reason.
    """
    found = [name for entry in _entries(TRANSPORTS).values() for name in entry.load().found()]
    return [_reach(name) for name in sorted([*_entries(), *found])]


def _reach(name: str) -> Reach:
    try:
        device = connect(name)
        with device.open() as worker:
            return Reach(name, device.info(), worker.info)
    except (AdaptareError, ImportError) as error:
        return Reach(name, None, problem=str(error))


def _entries(group: str = ENTRY_POINTS) -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def _parse(spelling: str, options: str, signature: inspect.Signature) -> dict[str, object]:
    parsed: dict[str, object] = {}
    simple = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.annotation in _CONVERTERS
    }
    for option in filter(None, options.split(",")):
        name, equals, text = option.partition("=")
        if name not in simple or not equals:
            known = ", ".join(f"{known}=…" for known in simple) or "none"
            raise InputError(f"device {spelling!r}: option {option!r} is unknown; options are {known}")
        try:
            parsed[name] = _CONVERTERS[simple[name]](text)
        except (KeyError, ValueError) as error:
            raise InputError(f"device {spelling!r}: {text!r} is no value for {name}") from error
    return parsed


def _yes_or_no(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


_CONVERTERS: dict[Any, Callable[[str], object]] = {
    bool: _yes_or_no,
    int: int,
    float: _finite,
    str: str,
    int | None: int,
    float | None: _finite,
}
