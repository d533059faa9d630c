import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adaptare.app import app
from adaptare.core import ProgramError
from adaptare.devices import Loaded, Program
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import open_model


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.out)
        return content


Run = Callable[..., Answer]
CommandsIn = Callable[[Path], AbstractContextManager[Run]]


@pytest.fixture(scope="session")
def commands_in() -> CommandsIn:
    """Runs commands in a folder, in this process."""

    @contextmanager
    def inside(folder: Path) -> Iterator[Run]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.delenv("COLUMNS", raising=False)

            def call(*arguments: object) -> Answer:
                words = [str(argument) for argument in arguments]
                patch.setattr("sys.argv", ["adaptare", *words])
                result = CliRunner().invoke(app, words, catch_exceptions=True)
                if result.exception is not None and not isinstance(result.exception, SystemExit):
                    raise result.exception
                return Answer(result.exit_code, result.stdout, result.stderr)

            yield call

    return inside


@pytest.fixture
def run(tmp_path: Path, commands_in: CommandsIn) -> Iterator[Run]:
    """Runs a command in an empty folder."""
    with commands_in(tmp_path) as call:
        yield call


@pytest.fixture
def run_in_copy(run: Run, tmp_path: Path) -> Callable[[Path], Run]:
    """Runs a command in a copy of a folder that several tests begin with."""

    def copied(folder: Path) -> Run:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        return run

    return copied


@pytest.fixture
def swappable_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the simulated device has no memory for swappable adapters."""
    load = SimulatedWorker.load

    def fail(worker: SimulatedWorker, program: Program) -> Loaded:
        if "swappable" in program.name:
            raise ProgramError("out of memory")
        return load(worker, program)

    monkeypatch.setattr(SimulatedWorker, "load", fail)


@pytest.fixture(scope="session")
def write_data() -> Callable[[Path], Path]:
    """Writes examples that a model of two small layers can learn something from."""

    def write(folder: Path) -> Path:
        file = folder / "data.jsonl"
        rows = [{"prompt": f"{a}+{b}", "completion": str(a + b)} for a in range(12) for b in range(8)]
        file.write_text("\n".join(json.dumps(row) for row in rows))
        return file

    return write


@pytest.fixture
def data(tmp_path: Path, write_data: Callable[[Path], Path]) -> Path:
    """Those examples."""
    return write_data(tmp_path)


@pytest.fixture
def saved(model_cache: Path, tmp_path: Path) -> Callable[..., Path]:
    """Adapters of random weights that PEFT itself has saved."""

    def save(name: str = "adapter", **settings: object) -> Path:
        from peft import LoraConfig, get_peft_model

        from adaptare.profiler.models.random_model import random_model

        base = random_model(json.loads(open_model("tiny-random", cache=model_cache).shape.config))
        arguments = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **settings}
        get_peft_model(base, LoraConfig(**arguments)).save_pretrained(tmp_path / name)
        return tmp_path / name

    return save
