"""Target of measurements: a device, and the format of the base's weights on it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypedDict

from adaptare.core import InputError
from adaptare.core.extensions import nearest
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.core.spelling import split_options
from adaptare.devices import Device, DeviceInfo, connect
from adaptare.profiler import Mode, ModelShape, Phase, Programs, Quantisation, Workload, open_model, programs_for
from adaptare.profiler.workloads import BYTES

USUAL: Final = "float32"


class Weights(TypedDict):
    """Format of the base's weights, as fields of a workload."""

    quantisation: Quantisation
    dtype: str


@dataclass(frozen=True)
class Target:
    """Device to measure on, and format of the base's weights.

    Args:
        place: The device, or its spelling without the weights of the base.
        quantisation: Quantisation of the base.
        dtype: Data type of everything that is not quantised.
        named: True if the spelling includes the weight format.
    """

    place: str | Device
    quantisation: Quantisation = "none"
    dtype: str = USUAL
    named: bool = False

    @cached_property
    def device(self) -> Device:
        """The device, connected on first use. Raises `InputError` and `DeviceError`."""
        return connect(self.place) if isinstance(self.place, str) else self.place

    @property
    def weights(self) -> Weights:
        """Weight format of every workload measured here."""
        return {"quantisation": self.quantisation, "dtype": self.dtype}

    def workload(
        self, shape: ModelShape, phase: Phase, length: int, *, mode: Mode = "swappable", batch: int = 1
    ) -> Workload:
        """Base with tokens of prefill, or cached positions of decode, for adapters in a mode."""
        return Workload(shape, mode=mode, phase=phase, batch=batch, tokens=length, past=length, **self.weights)

    @property
    def name(self) -> str:
        """Spelling of the device, with the weight format."""
        return spelled(self.device.info().device, self.quantisation, self.dtype)


def weight_words(quantisation: Quantisation, dtype: str) -> list[str]:
    """Weight format, without defaults."""
    return [word for word in (quantisation, dtype) if word not in ("none", USUAL)]


def spelled(device: str, quantisation: Quantisation, dtype: str) -> str:
    """Spelling of a device, with the weight format: what `target_of` parses."""
    name, options = split_options(device)
    return ":".join(filter(None, (name, ",".join(filter(None, (options, *weight_words(quantisation, dtype)))))))


def target_of(device: str | Device) -> Target:
    """Parses spellings such as `torch-cpu:bfloat16,threads=1` or `ort-cpu:int4`; a device stands for float32 weights.

    Raises:
        InputError: The spelling is wrong; the device itself is not looked for.
    """
    if not isinstance(device, str):
        return Target(device)
    name, options = split_options(device)
    quantisations = [name for name in QUANTISATIONS if name != "none"]
    words, rest = list[str](), []
    for option in filter(None, options.split(",")):
        if option in (*quantisations, *BYTES):
            words.append(option)
        elif "=" in option:
            rest.append(option)
        else:
            known = (*quantisations, *BYTES)
            near = nearest(option, known)
            raise InputError(
                f"device {device!r}: {option!r} is none of {', '.join(known)}, nor an option NAME=VALUE{near}"
            )
    if len(set(words)) > 1:
        raise InputError(f"device {device!r} names two bases, {words[0]} and {words[1]}; choose one")
    word = words[0] if words else USUAL
    place = ":".join(filter(None, (name, ",".join(rest))))
    quantisation, dtype = word if word in quantisations else "none", word if word in BYTES else USUAL
    return Target(place, quantisation, dtype, named=bool(words))


def opened(
    model: str, device: str | Device, programs: Programs | None = None, *, cache: str | Path | None
) -> tuple[Target, ModelShape, Programs]:
    """Target, shape of the model, and builder of programs; by default the registered one. Raises `InputError`."""
    target = target_of(device)
    programs = programs or programs_for(target.device.info(), cache=cache)
    return target, open_model(model, cache=cache).shape, programs


def named_target(spelling: str | None, known: DeviceInfo, template: Workload) -> Target:
    """The device given by the user, or the known one, with the base of the template.

    Raises:
        InputError: The spelling has other base weights than the template.
    """
    target = target_of(spelling or known.device)
    profiled = Target(target.place, template.quantisation, template.dtype)
    if target.named and target.weights != profiled.weights:
        words = template.dtype if template.quantisation == "none" else template.quantisation
        raise InputError(f"device {spelling!r} has another base; the profiled one has {words} weights")
    return profiled
