"""Suite of a runtime: the library that loads and calls programs inside the agent."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from adaptare.devices import Runtime
from adaptare.devices.agent.runtime import AttributingRuntime, Model, PreparedRuntime, RuntimeFacts


@dataclass(frozen=True)
class RuntimeProgram:
    """A program that a runtime can load.

    Args:
        folder: Folder with its files.
        source: Its main file, or `module:factory`.
        arguments: Arguments of loading.
        feed: Arguments of `bind`.
    """

    folder: str
    source: str
    arguments: Mapping[str, Any]
    feed: Mapping[str, Any]


class RuntimeSuite:
    """Tests of a runtime, in this process.

    Fixtures to define, with `scope="class"`:
        runtime: The `Runtime`, before `setup`.
        program: A `RuntimeProgram` for it, whose outputs are numbers.
        options: Options for its `setup`; none by default.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, Any]:
        """Options for `setup`."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def facts(cls, runtime: Runtime, options: Mapping[str, Any]) -> RuntimeFacts:
        """Facts about the runtime, after its setup with one thread."""
        return runtime.setup(1, options)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, runtime: Runtime, program: RuntimeProgram, facts: RuntimeFacts) -> Model:
        """The loaded program."""
        if isinstance(runtime, PreparedRuntime):
            runtime.prepare(program.source)
        return runtime.load(program.folder, program.source, program.arguments, 0)

    def test_takes_the_parameters_of_its_contract(self, runtime: Runtime) -> None:
        assert _methods(Runtime).items() <= _methods(type(runtime)).items()

    def test_its_model_takes_the_parameters_of_its_contract(self, model: Model) -> None:
        assert _methods(Model).items() <= _methods(type(model)).items()

    def test_is_made_without_arguments(self, runtime: Runtime) -> None:
        assert isinstance(type(runtime)(), type(runtime))

    def test_its_version_is_a_name_and_a_number(self, facts: RuntimeFacts) -> None:
        name, number = facts.version.split()
        assert name.isidentifier()
        assert number[0].isdigit()

    def test_its_providers_are_names(self, facts: RuntimeFacts) -> None:
        assert all(isinstance(name, str) and name for name in facts.providers)

    def test_some_nodes_run(self, model: Model) -> None:
        assert sum(model.nodes().values()) >= 1

    def test_a_call_gives_the_same_numbers_again(self, model: Model, program: RuntimeProgram) -> None:
        first, again = (_output(*model.bind(program.feed)) for _ in range(2))
        assert first == again
        assert first

    def test_a_runtime_that_attributes_names_operators_of_every_call(
        self, runtime: Runtime, program: RuntimeProgram, facts: RuntimeFacts
    ) -> None:
        if not isinstance(runtime, AttributingRuntime):
            return

        def timed(call: Callable[[], Any], restore: Callable[[], None]) -> Sequence[float]:
            return list(_times(call, restore, 3))

        seconds, calls = runtime.attribute(program.folder, program.source, program.arguments, program.feed, timed)
        assert len(seconds) == len(calls) == 3
        assert all(times >= 1 and own >= 0 for operators in calls for times, own in operators.values())


def _methods(of: type) -> dict[str, list[str]]:
    """Parameters of each public method."""
    public = [each for each in inspect.getmembers(of, inspect.isfunction) if not each[0].startswith("_")]
    return {name: list(inspect.signature(function).parameters) for name, function in public}


def _output(call: Callable[[], Any], restore: Callable[[], None]) -> list[float]:
    restore()
    output = call()
    return [float(each) for each in np.ravel(output.tolist() if hasattr(output, "tolist") else output)]


def _times(call: Callable[[], Any], restore: Callable[[], None], calls: int) -> Iterator[float]:
    for _ in range(calls):
        restore()
        started = perf_counter()
        call()
        yield perf_counter() - started
