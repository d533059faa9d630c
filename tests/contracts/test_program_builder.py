"""Program builders that keep to the contract. A new one joins by one line in `BUILDERS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adaptare.devices import Device, SimulatedDevice, TorchCpu, ort_cpu
from adaptare.profiler import Programs, programs_for
from adaptare.testing import ProgramBuilderSuite


@dataclass(frozen=True)
class Case:
    """The device selects the builder that is registered for its runtime."""

    name: str
    make: Callable[[], Device]


BUILDERS = [
    Case("simulated", SimulatedDevice),
    Case("torch", lambda: TorchCpu(threads=1, timeout_s=60)),
    Case("onnxruntime", lambda: ort_cpu(threads=1, timeout_s=60)),
]


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda case: case.name)
def device(request: pytest.FixtureRequest) -> Device:
    return request.param.make()


@pytest.fixture(scope="module")
def builder(device: Device, shared_folder: Path) -> Programs:
    return programs_for(device.info(), cache=shared_folder / "built")


class TestProgramBuilder(ProgramBuilderSuite):
    """Every builder of the list."""
