"""What every library keeps to that loads programs in the agent."""

import inspect
from collections.abc import Iterator

import pytest

from adaptare.devices import Runtime
from adaptare.devices.agent.ort_runtime import OrtModel, OrtRuntime
from adaptare.devices.agent.runtime import Model
from adaptare.devices.agent.torch_runtime import TorchModel, TorchRuntime


def parameters(of: type) -> Iterator[tuple[str, list[str]]]:
    for name, function in inspect.getmembers(of, inspect.isfunction):
        if not name.startswith("_"):
            yield name, list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("made", "contract"),
    [(OrtRuntime, Runtime), (TorchRuntime, Runtime), (OrtModel, Model), (TorchModel, Model)],
)
def test_has_the_methods_of_its_contract_and_no_others(made: type, contract: type) -> None:
    assert dict(parameters(made)) == dict(parameters(contract))


@pytest.mark.parametrize("made", [OrtRuntime, TorchRuntime])
def test_is_made_without_arguments_and_without_importing_its_library(made: type) -> None:
    assert list(inspect.signature(made).parameters) == []
