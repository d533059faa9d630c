"""What `--device` names: a device, and for ONNX Runtime how the base is quantised there."""

from dataclasses import dataclass
from typing import get_args

from adaptare.devices import Device, DeviceInfo, InputError, connect
from adaptare.profiler import Quantisation, Workload

# In how many openings more the same time is spent where loading anew matters.
RELOADS = 3


@dataclass(frozen=True)
class Target:
    """Where to measure, and what.

    Args:
        device: Takes the time.
        quantisation: Of the base.
    """

    device: Device
    quantisation: Quantisation

    @property
    def name(self) -> str:
        """For people: the device's own spelling, with the quantisation."""
        spelling = self.device.info().device
        return spelling if self.quantisation == "none" else f"{spelling},{self.quantisation}"

    @property
    def reloading_matters(self) -> bool:
        """Whether a model is a percent or more faster or slower for as long as it is loaded.

        ONNX Runtime gives every program memory of its own, and some places are faster than others.
        """
        return self.device.info().runtime.startswith("onnxruntime")

    def pace(self, usual: tuple[int, float], openings: int | None, seconds: float | None) -> tuple[int, float]:
        """Openings, and seconds for each of them.

        Args:
            usual: Both, where loading anew does not matter and the user says nothing.
            openings: What the user says.
            seconds: What the user says.
        """
        times = RELOADS if self.reloading_matters else 1
        return openings or times * usual[0], usual[1] / times if seconds is None else seconds


def target_of(spelling: str) -> Target:
    """From a spelling such as `torch-cpu:threads=1` or `ort-cpu:int4,threads=2`. Raises `InputError`."""
    runtime, _, options = spelling.partition(":")
    chosen: Quantisation = "none"
    rest = []
    for option in filter(None, options.split(",")):
        quantised = next((name for name in get_args(Quantisation) if name == option != "none"), None)
        if quantised is None and "=" not in option and "/" not in spelling:
            raise InputError(f"--device {spelling!r}: {option!r} is neither int8 nor int4, nor an option NAME=VALUE")
        if quantised and chosen not in ("none", quantised):
            raise InputError(f"--device {spelling!r} names two bases, {chosen} and {quantised}; choose one")
        if quantised:
            chosen = quantised
        else:
            rest.append(option)
    return Target(connect(":".join(filter(None, (runtime, ",".join(rest))))), chosen)


def named_target(spelling: str | None, known: DeviceInfo, template: Workload) -> Target:
    """The device that the user names, or the one that is known, with the base of the template.

    Raises:
        InputError: The spelling names another quantisation than the template has.
    """
    target = target_of(spelling or known.device)
    if spelling and target.quantisation not in ("none", template.quantisation):
        raise InputError(
            f"--device {spelling!r} has another base; what was profiled has {template.quantisation} weights"
        )
    return Target(target.device, template.quantisation)
