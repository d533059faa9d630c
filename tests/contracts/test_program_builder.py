"""Program builders that keep to the contract. A new one joins by one line in `BUILDERS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from genai_folder import genai_folder

from adaptare.devices import Device, SimulatedDevice, TorchCpu, ort_cpu
from adaptare.devices.genai_device import ort_genai
from adaptare.devices.llama_device import llama_cpu
from adaptare.devices.openvino_device import openvino_cpu
from adaptare.profiler import Programs, Workload, programs_for
from adaptare.testing import ProgramBuilderSuite
from adaptare.testing.program_builder import DECODE, PREFILL, SHAPE


@dataclass(frozen=True)
class Case:
    """The device selects the builder that is registered for its runtime."""

    name: str
    make: Callable[[Path], Device]


def genai(folder: Path) -> Device:
    if not (folder / "model").exists():
        genai_folder(SHAPE, folder)
    return ort_genai(folder=str(folder / "model"), threads=1, timeout_s=60)


BUILDERS = [
    Case("simulated", lambda folder: SimulatedDevice()),
    Case("torch", lambda folder: TorchCpu(threads=1, timeout_s=60)),
    Case("onnxruntime", lambda folder: ort_cpu(threads=1, timeout_s=60)),
    Case("onnxruntime-genai", genai),
]
MARKED = [
    pytest.param(Case("llama_cpp", lambda folder: llama_cpu(timeout_s=60)), marks=pytest.mark.llama),
    pytest.param(Case("openvino", lambda folder: openvino_cpu(timeout_s=60)), marks=pytest.mark.openvino),
]


@pytest.fixture(scope="module", params=[*BUILDERS, *MARKED], ids=lambda case: case.name)
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Device:
    return request.param.make(tmp_path_factory.getbasetemp() / "genai")


@pytest.fixture(scope="module")
def builder(device: Device, shared_folder: Path) -> Programs:
    return programs_for(device.info(), cache=shared_folder / "built")


class TestProgramBuilder(ProgramBuilderSuite):
    """Every builder of the list."""

    @pytest.fixture(
        scope="class", params=[DECODE, pytest.param(PREFILL, marks=pytest.mark.slow)], ids=["decode", "prefill"]
    )
    @classmethod
    def workload(cls, request: pytest.FixtureRequest) -> Workload:
        """Prefill is slow: each runtime starts once more for it."""
        found: Workload = request.param
        return found
