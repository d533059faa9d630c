"""Registry that maps the spelling of a device, `[TRANSPORT:TARGET/]RUNTIME[:options]`, to the device."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, get_args, get_type_hints

from adaptare.core import InputError
from adaptare.core.extensions import extension, extensions, nearest
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.core.spelling import DEVICES, TRANSPORTS, parts_of_spelling
from adaptare.devices.contracts import Device
from adaptare.devices.transports.local_python import LocalPython

# Option of a device of this machine whose worker runs in another Python.
PYTHON = "python"


# Type of options that are spelled GROUP.NAME=VALUE, of any name.
Group = Mapping[str, str]


def connect(spelling: str) -> Device:
    """The device with a given spelling, for example `torch-cpu:threads=1,pin=no` or `ssh://user@host/ort-cpu`.

    Raises:
        InputError: The transport or the runtime is unknown, or an option is unknown or has a value of the wrong type.
    """
    scheme, target, runtime, options = parts_of_spelling(spelling)
    if not runtime or (not scheme and runtime in extensions(TRANSPORTS)):
        raise InputError(
            f"device {spelling!r} names no runtime on another machine; write it as ssh://user@host/ort-cpu, "
            "adb:SERIAL/ort-native or browser:NAME"
        )
    build: Callable[..., Device] = extension(DEVICES, runtime, kind="device")
    parameters = _signature(build).parameters
    is_movable, simple = "transport" in parameters, _simple(parameters.values())
    if not scheme:
        given = _parse(spelling, options, {**simple, **({PYTHON: str} if is_movable else {})})
        elsewhere = {"transport": LocalPython(str(given.pop(PYTHON)))} if PYTHON in given else {}
        return build(**given, **elsewhere)
    reach: Callable[..., object] = extension(TRANSPORTS, scheme, kind="transport")
    if not is_movable:
        raise InputError(f"device {spelling!r}: {runtime} exists only on this machine; leave the transport out")
    _, *options_of_transport = _signature(reach).parameters.values()
    of_transport = _simple(options_of_transport)
    given = _parse(spelling, options, {**simple, **of_transport})
    transport = reach(target, **{name: given.pop(name) for name in of_transport if name in given})
    return build(**given, transport=transport)


def _simple(parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """Parameters that can be spelled, with their types."""
    return {parameter.name: parameter.annotation for parameter in parameters if parameter.annotation in _CONVERTERS}


def _signature(build: Callable[..., object]) -> inspect.Signature:
    """Parameters that are not fixed yet, with annotations resolved to types if all their names are imported."""
    try:
        signature = inspect.signature(build, eval_str=True)
    except NameError:
        signature = inspect.signature(build)
    fixed = build.keywords if isinstance(build, partial) else {}
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in fixed]
    return signature.replace(parameters=[each for parameter in parameters for each in _unpacked(parameter)])


def _unpacked(parameter: inspect.Parameter) -> Iterable[inspect.Parameter]:
    """The keywords of `**options: Unpack[SomeTypedDict]`; any other parameter itself."""
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD or not get_args(parameter.annotation):
        return [parameter]
    hints = get_type_hints(get_args(parameter.annotation)[0])
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]) for name in hints]


def _parse(spelling: str, options: str, simple: Mapping[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        name, equals, text = option.partition("=")
        group, _, member = name.partition(".")
        if equals and member and simple.get(group) == Group:
            parsed[group] = {**parsed.get(group, {}), member: text}
            continue
        if name not in simple or not equals or simple[name] == Group:
            known = ", ".join(f"{known}{'.…' if simple[known] == Group else ''}=…" for known in simple) or "none"
            hint = nearest(name, simple)
            if option in QUANTISATIONS:
                hint = f"; the format of the weights is a field of a workload: Workload(..., quantisation={option!r})"
            raise InputError(f"device {spelling!r}: option {option!r} is unknown; options are {known}{hint}")
        if name in parsed:
            raise InputError(f"device {spelling!r}: {name} came twice; give it once")
        try:
            parsed[name] = _CONVERTERS[simple[name]](text)
        except (KeyError, ValueError) as error:
            raise InputError(f"device {spelling!r}: {text!r} is no value for {name}") from error
    return parsed


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


_CONVERTERS: dict[Any, Callable[[str], object]] = {
    bool: {"yes": True, "no": False}.__getitem__,
    int: int,
    float: _finite,
    str: str,
    int | None: int,
    float | None: _finite,
    Group: str,  # of each member
}
