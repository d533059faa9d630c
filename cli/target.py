"""What `--device` names: a device, and for ONNX Runtime how the base is quantised there."""

from dataclasses import dataclass
from typing import get_args

from adaptare.devices import Device, DeviceInfo, InputError, connect
from adaptare.profiler import Quantisation, Workload


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
        """Whether a model is a few percent faster or slower for as long as it is loaded, by where its weights lie.

        ONNX Runtime packs them into memory of its own whenever a model is loaded.
        """
        return self.device.info().runtime.startswith("onnxruntime")


def target_of(spelling: str) -> Target:
    """From a spelling such as `torch-cpu:threads=1` or `ort-cpu:int4,threads=2`. Raises `InputError`."""
    runtime, _, options = spelling.partition(":")
    chosen: Quantisation = "none"
    rest = []
    for option in filter(None, options.split(",")):
        quantised = next((name for name in get_args(Quantisation) if name == option != "none"), None)
        if quantised:
            chosen = quantised
        else:
            rest.append(option)
    return Target(connect(":".join(filter(None, (runtime, ",".join(rest))))), chosen)


def named_target(spelling: str | None, known: DeviceInfo, template: Workload) -> Device:
    """The device that the user names, or the one that is known.

    Raises:
        InputError: The spelling names another quantisation than the template has.
    """
    target = target_of(spelling or known.device)
    if spelling and target.quantisation not in ("none", template.quantisation):
        raise InputError(
            f"--device {spelling!r} has another base; what was profiled has {template.quantisation} weights"
        )
    return target.device
