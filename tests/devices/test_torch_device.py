"""The torch device: settings that must be applied inside the worker."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptare.core import ProgramError
from adaptare.devices import Program, TorchCpu
from adaptare.devices.agent.torch_runtime import TorchRuntime

MakeProgram = Callable[..., Program]

AVAILABLE = len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("worker_modules")
def test_a_pinned_worker_has_the_threads_and_tensors_beyond_the_memory_leave_it_alive(
    make_program: MakeProgram,
) -> None:
    with TorchCpu(threads=1, pin=True, timeout_s=60).open() as worker:
        ((operator_threads, _, processors),) = worker.load(make_program("torch_settings")).outputs.values()
        assert (operator_threads, processors) == (1, 1)
        hungry = worker.load(make_program("torch_hungry"))
        with pytest.raises(ProgramError, match=r"^out of memory: .*can't allocate memory"):
            worker.run(hungry.program_id, "only", 1)
        loaded = worker.load(make_program("torch_linear", width=2))
        assert len(worker.run(loaded.program_id, "only", 2)) == 2
    assert loaded.outputs == {"only": (0.25, 0.75)}
    assert loaded.providers == {"torch": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("worker_modules")
def test_an_unpinned_worker_has_as_many_threads_as_were_asked_for(make_program: MakeProgram) -> None:
    with TorchCpu(threads=AVAILABLE, timeout_s=60).open() as worker:
        ((operator_threads, _, processors),) = worker.load(make_program("torch_settings")).outputs.values()
    assert (operator_threads, processors) == (AVAILABLE, AVAILABLE)


def test_the_version_is_that_of_the_installed_torch() -> None:
    import torch

    name, version = TorchRuntime().setup(1, {}).version.split()
    assert (name, version.partition("+")[0]) == ("torch", torch.__version__.partition("+")[0])


@pytest.mark.usefixtures("worker_modules")
def test_copies_are_numbered_from_1_and_a_folder_is_told_where_it_has_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[dict[str, object]] = []

    class Factories:
        @staticmethod
        def factory(**arguments: object) -> None:
            made.append(arguments)

    monkeypatch.setattr("importlib.import_module", lambda name: Factories)
    for copy in (0, 1):
        TorchRuntime().load(str(tmp_path), "module:factory", {"width": 5}, copy)
    (tmp_path / "weights").write_text("7")
    TorchRuntime().load(str(tmp_path), "module:factory", {"width": 5}, 2)
    assert made == [{"width": 5}, {"width": 5, "copy": 1}, {"width": 5, "copy": 2, "folder": str(tmp_path)}]
