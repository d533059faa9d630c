"""What `--device` names: a device, and what the weights of the base are there."""

from dataclasses import dataclass
from typing import Final, TypedDict, get_args

from adaptare.devices import Device, DeviceInfo, InputError, connect
from adaptare.profiler import BYTES, Quantisation, Workload

USUAL: Final = "float32"


class Weights(TypedDict):
    """What the weights of a base are, as fields of a workload."""

    quantisation: Quantisation
    dtype: str


@dataclass(frozen=True)
class Target:
    """Where to measure, and what.

    Args:
        quantisation: Of the base.
        dtype: Of what is not quantised.
        named: Whether the spelling says what the weights are.
    """

    device: Device
    quantisation: Quantisation
    dtype: str = USUAL
    named: bool = False

    @property
    def weights(self) -> Weights:
        """Of every workload that is measured here."""
        return {"quantisation": self.quantisation, "dtype": self.dtype}

    @property
    def place(self) -> dict[str, str]:
        """Device and weights, as results name them in JSON."""
        return {"device": self.device.info().device, "quantisation": self.quantisation, "dtype": self.dtype}

    @property
    def words(self) -> list[str]:
        """What the weights are, unless that goes without saying."""
        return weight_words(self.quantisation, self.dtype)

    @property
    def name(self) -> str:
        """For people: the device's own spelling, with what the weights are."""
        return ",".join([self.device.info().device, *self.words])


def weight_words(quantisation: Quantisation, dtype: str) -> list[str]:
    """What weights are, unless that goes without saying."""
    return [word for word in (quantisation, dtype) if word not in ("none", USUAL)]


@dataclass(frozen=True)
class Spelling:
    """What `--device` says, before anything is reached.

    Args:
        device: Without the weights of the base.
        quantisation: Of the base.
        dtype: Of what is not quantised.
        named: Whether it says what the weights are.
    """

    device: str
    quantisation: Quantisation
    dtype: str
    named: bool


def read_spelling(text: str) -> Spelling:
    """The parts of `torch-cpu:bfloat16,threads=1` or `ort-cpu:int4,threads=2`. Raises `InputError`."""
    runtime, _, options = text.partition(":")
    quantisations: dict[str, Quantisation] = {name: name for name in get_args(Quantisation) if name != "none"}
    words, rest = list[str](), []
    for option in filter(None, options.split(",")):
        if option in (*quantisations, *BYTES):
            words.append(option)
        elif "=" in option or "/" in text:
            rest.append(option)
        else:
            known = ", ".join((*quantisations, *BYTES))
            raise InputError(f"--device {text!r}: {option!r} is none of {known}, nor an option NAME=VALUE")
    if len(set(words)) > 1:
        raise InputError(f"--device {text!r} names two bases, {words[0]} and {words[1]}; choose one")
    word = words[0] if words else USUAL
    device = ":".join(filter(None, (runtime, ",".join(rest))))
    return Spelling(device, quantisations.get(word, "none"), word if word in BYTES else USUAL, named=bool(words))


def target_of(spelling: str) -> Target:
    """The device, connected, and the weights. Raises `InputError`."""
    said = read_spelling(spelling)
    return Target(connect(said.device), said.quantisation, said.dtype, named=said.named)


def named_target(spelling: str | None, known: DeviceInfo, template: Workload) -> Target:
    """The device that the user names, or the one that is known, with the base of the template.

    Raises:
        InputError: The spelling names another base than the template has.
    """
    target = target_of(spelling or known.device)
    profiled = Target(target.device, template.quantisation, template.dtype)
    if target.named and target.weights != profiled.weights:
        words = template.dtype if template.quantisation == "none" else template.quantisation
        raise InputError(f"--device {spelling!r} has another base; what was profiled has {words} weights")
    return profiled
