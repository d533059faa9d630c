"""Target of measurements: a device, and the format of the base's weights on it."""

from dataclasses import dataclass
from typing import Final, TypedDict

from adaptare.core import InputError
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.devices import Device, DeviceInfo, connect, split_options
from adaptare.profiler import Quantisation, Workload
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
        quantisation: Quantisation of the base.
        dtype: Data type of everything that is not quantised.
        named: True if the spelling includes the weight format.
    """

    device: Device
    quantisation: Quantisation
    dtype: str = USUAL
    named: bool = False

    @property
    def weights(self) -> Weights:
        """Weight format of every workload measured here."""
        return {"quantisation": self.quantisation, "dtype": self.dtype}

    @property
    def place(self) -> dict[str, str]:
        """Device and weights, with their names in JSON results."""
        return {"device": self.device.info().device, "quantisation": self.quantisation, "dtype": self.dtype}

    @property
    def name(self) -> str:
        """Display name: the spelling of the device, with the weight format."""
        return ",".join([self.device.info().device, *weight_words(self.quantisation, self.dtype)])


def weight_words(quantisation: Quantisation, dtype: str) -> list[str]:
    """Weight format, without defaults."""
    return [word for word in (quantisation, dtype) if word not in ("none", USUAL)]


@dataclass(frozen=True)
class Spelling:
    """Parsed spelling of a device and weights, before any connection.

    Args:
        device: Spelling without the weights of the base.
        quantisation: Quantisation of the base.
        dtype: Data type of everything that is not quantised.
        named: True if it includes the weight format.
    """

    device: str
    quantisation: Quantisation
    dtype: str
    named: bool


def read_spelling(text: str) -> Spelling:
    """Parses spellings such as `torch-cpu:bfloat16,threads=1` or `ort-cpu:int4,threads=2`. Raises `InputError`."""
    name, options = split_options(text)
    quantisations = [name for name in QUANTISATIONS if name != "none"]
    words, rest = list[str](), []
    for option in filter(None, options.split(",")):
        if option in (*quantisations, *BYTES):
            words.append(option)
        elif "=" in option:
            rest.append(option)
        else:
            known = ", ".join((*quantisations, *BYTES))
            raise InputError(f"device {text!r}: {option!r} is none of {known}, nor an option NAME=VALUE")
    if len(set(words)) > 1:
        raise InputError(f"device {text!r} names two bases, {words[0]} and {words[1]}; choose one")
    word = words[0] if words else USUAL
    device = ":".join(filter(None, (name, ",".join(rest))))
    quantisation, dtype = word if word in quantisations else "none", word if word in BYTES else USUAL
    return Spelling(device, quantisation, dtype, named=bool(words))


def target_of(device: str | Device) -> Target:
    """The connected device, and the weights; float32 for a device that is handed over. Raises `InputError`."""
    if not isinstance(device, str):
        return Target(device, "none")
    spelling = read_spelling(device)
    return Target(connect(spelling.device), spelling.quantisation, spelling.dtype, named=spelling.named)


def named_target(spelling: str | None, known: DeviceInfo, template: Workload) -> Target:
    """The device given by the user, or the known one, with the base of the template.

    Raises:
        InputError: The spelling has other base weights than the template.
    """
    target = target_of(spelling or known.device)
    profiled = Target(target.device, template.quantisation, template.dtype)
    if target.named and target.weights != profiled.weights:
        words = template.dtype if template.quantisation == "none" else template.quantisation
        raise InputError(f"device {spelling!r} has another base; the profiled one has {words} weights")
    return profiled
