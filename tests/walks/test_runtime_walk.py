"""A runtime of another package, from its suites to a command that finds, runs and measures it by its name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from installing import installed
from toy_runtime import ToyPrograms, ToyRuntime, toy

from adaptare.devices import AgentDevice, Program, program_file
from adaptare.testing import FEEDS, DevicePrograms, DeviceSuite, ProgramBuilderSuite, RuntimeProgram, RuntimeSuite

HERE = Path(__file__).parent
ENTRY_POINTS = ("adaptare.devices", "toy = toy_runtime:toy", "[adaptare.programs]", "toy = toy_runtime:ToyPrograms")
GOOD = [("linear", 0, 8, 16, 2, False), ("tanh",)]


def toy_program(folder: Path, name: str, operations: list[tuple[object, ...]]) -> Program:
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"rows": 16, "operations": operations}), encoding="utf-8")
    return Program(name, file.name, "{}", FEEDS, (program_file(file),))


@pytest.fixture(scope="module", autouse=True)
def _found_by_workers() -> object:
    """Workers find the module of the runtime."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


class TestToyRuntime(RuntimeSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls) -> ToyRuntime:
        return ToyRuntime()

    @pytest.fixture(scope="class")
    @classmethod
    def program(cls, tmp_path_factory: pytest.TempPathFactory) -> RuntimeProgram:
        folder = tmp_path_factory.mktemp("program")
        return RuntimeProgram(str(folder), toy_program(folder, "good", GOOD).source, {}, {"positions": 3})


class TestToyDevice(DeviceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls) -> AgentDevice:
        return toy(threads=1)

    @pytest.fixture(scope="class")
    @classmethod
    def programs(cls, tmp_path_factory: pytest.TempPathFactory) -> DevicePrograms:
        folder = tmp_path_factory.mktemp("programs")
        good, other = toy_program(folder, "good", GOOD), toy_program(folder, "other", [("resize", 4), ("tanh",)])
        return DevicePrograms(good, other, good, toy_program(folder, "failing", [("linear", 0, 8, 5, 0, False)]))


class TestToyPrograms(ProgramBuilderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls) -> AgentDevice:
        return toy(threads=1)

    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> ToyPrograms:
        return ToyPrograms(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Runs commands where the runtime is installed."""
    package = installed(tmp_path / "packages", *ENTRY_POINTS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ["PYTHONPATH"]])}

    def run(*words: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "adaptare", *words, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    return run


@pytest.mark.slow
def test_the_command_line_finds_runs_and_measures_it(command: Callable[..., dict[str, object]]) -> None:
    (device,) = command("devices", "toy:threads=1")["devices"]
    assert device["info"]
    assert device["info"]["runtime"] == "toy 1.0"
    arguments = ("--rank", "8", "-p", "0", "-d", "4", "--device", "toy:threads=1", "--openings", "2", "--seconds", "2")
    report = command("overhead", "tiny-random", *arguments)
    assert {row["mode"] for row in report["rows"]} == {"swappable", "merged"}
