import gc
import io
import itertools
import json
import math
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adaptare.app import app
from adaptare.core import ProgramError
from adaptare.core.table import AnyTable, Column, Table
from adaptare.devices import Loaded, Program
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, open_model
from adaptare.profiler.analysis import Interval
from adaptare.search import read_budget
from adaptare.tables import drawn, print_table
from adaptare.workflows.search.result import Choice, Measured, Place, SearchResult, save_result


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


@pytest.fixture
def shares_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer, str], list[int]]:
    """Commands that run in this test print every step of their progress; the shares of a task in per cent."""
    monkeypatch.setattr("adaptare.console.PLAIN_INTERVAL_S", 0.0)
    monkeypatch.setattr("adaptare.workflows.reading.QUIET_S", 0.0)

    def read(answer: Answer, task: str) -> list[int]:
        shares = [int(share) for share in re.findall(rf"^{re.escape(task)}: +(\d+)%", answer.err, re.MULTILINE)]
        assert all(later >= earlier or later == shares[0] for earlier, later in itertools.pairwise(shares)), (
            "progress goes back"
        )
        return shares

    return read


TERMINAL = 80
# The widest text that each kind of number takes: percentages, milliseconds, tokens.
WIDEST = [
    (re.compile(r"(?<![\w.])[+-]\d+(?:\.\d)?%"), "+123.4%"),
    (re.compile(r"(?<![\w.+-])\d+\.\d+(?![\w%])"), "12,345"),
    (re.compile(r"(?<![\w.,+-])\d+(?![\w.,%])"), "2048"),
]


def widened(table: AnyTable) -> AnyTable:
    """The table with the widest realistic numbers."""

    def wide(cell: str) -> str:
        for numbers, widest in WIDEST:
            cell = numbers.sub(widest, cell)
        return cell

    rows = [list(map(wide, cells)) for cells in table.cells]
    columns = [
        Column[list[str]](column.heading, itemgetter(index), column.rank, column.folds)
        for index, column in enumerate(table.columns)
    ]
    return Table(table.title, columns, rows)


def check_width(table: AnyTable, width: int = TERMINAL) -> None:
    """Fails if a line is longer than a terminal, or a number is broken or cut."""
    from rich.console import Console

    text, parts = io.StringIO(), drawn(table, width)
    for part in parts:
        Console(file=text, width=10 * width, highlight=False, markup=False).print(part)
    assert max(map(len, text.getvalue().splitlines())) <= width, text.getvalue()
    words = {word for part in parts for column in part.columns for cell in column.cells for word in str(cell).split()}
    numbers = {word for word in words if len(word) <= 16 and re.search(r"\d", word)}
    assert numbers <= set(text.getvalue().split()), text.getvalue()
    assert "…" not in text.getvalue()


@pytest.fixture(name="check_width")
def width_check() -> Callable[..., None]:
    """Fails if a table does not fit a width."""
    return check_width


def print_checked(table: AnyTable) -> None:
    """Prints a table that fits a terminal, also with the widest numbers."""
    for each in (table, widened(table)):
        check_width(each)
    print_table(table)


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
            patch.setattr("adaptare.console.print_table", print_checked)

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
def files_of_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """Lets no file grow beyond so many bytes, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


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


@pytest.fixture(scope="session")
def save_adapter(model_cache: Path) -> Callable[..., Path]:
    """Writes adapters of random weights, saved by PEFT itself, into folders."""

    def save(folder: Path, **settings: object) -> Path:
        from peft import LoraConfig, get_peft_model

        from adaptare.profiler.models.random_model import random_model

        base = random_model(json.loads(open_model("tiny-random", cache=model_cache).shape.config))
        arguments = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **settings}
        get_peft_model(base, LoraConfig(**arguments)).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def saved(save_adapter: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes such adapters into the folder of a test."""
    return lambda name="adapter", **settings: save_adapter(tmp_path / name, **settings)


@pytest.fixture(scope="session")
def results(commands_in: CommandsIn, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results to report: overheads of two devices, a store, a predictor and a verified front.

    The names in the front are hostile. Nobody may change the files.
    """
    folder = tmp_path_factory.mktemp("results")
    measured = ("--cache", model_cache, "-p", 0, "--rank", "1,8", "--json", "--store", "overheads.db")
    with commands_in(folder) as run:
        for name, device in (("one", "simulated"), ("other", "simulated:seed=1")):
            answer = run("overhead", "tiny-random", *measured, "--device", device, "--openings", 5, "--tasks", 2)
            (folder / f"{name}.json").write_text(answer.out, encoding="utf-8")
        profile = ("--space", "sites", "--count", 24, "--device", "simulated", "--seconds", 0.1, "--cache", model_cache)
        assert run("profile", "tiny-random", *profile).code == 0
        fitted = run("fit", "--device", "simulated", "-o", "predictor", "--json")
        (folder / "fit.json").write_text(fitted.out, encoding="utf-8")
    save_result(front_of(folder), folder / "front.json")
    gc.collect()  # closes the stores of these commands, which moves their newest rows into the files
    return folder


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


def front_of(folder: Path) -> SearchResult:
    """A front with a measured and a failed winner, baselines, and names that are HTML."""
    ranks = {
        f"model.layers.{layer}.{kind}": 4 * layer for layer in range(3) for kind in ("self_attn.q_proj", "mlp.up_proj")
    }
    winner = Choice("winner 1", Configuration.of(ranks), "swappable", Interval(1e-3, 2e-3, 3e-3), 1.5, 1.6)
    measured = Measured(Interval(1.5e-3, 2.1e-3, 2.2e-3), Interval(0.1, 0.2, 0.3), 0.05, verdict="met")
    unsure = Measured(Interval(1e-3, 2e-3, math.inf), None, 0.0, 1, verdict="ambiguous")
    failed = Measured(failure="out of memory")
    return SearchResult(
        budget=read_budget("decode=3ms"),
        limit=3e-3,
        base=1e-3,
        level=0.9,
        origin="predicted",
        place=Place(HOSTILE, "simulated", "none", "float32", "decode", 64),
        winners=(replace(winner, measured=measured), replace(winner, name=HOSTILE, measured=failed)),
        baselines=(
            replace(winner, name="uniform 8", val_loss=math.nan, predicted=Interval(0.0, 1e-3, math.inf)),
            replace(winner, name="merged", configuration=Configuration(), val_loss=None, measured=unsure),
        ),
        evaluations={"nsga2": 8},
        front=((1.5, 2e-3), (1.4, 2.5e-3)),
        folder=folder / "run",
        predictor=folder / "predictor",
    )


@pytest.fixture
def rows_of() -> Callable[[str], list[str]]:
    """Everything in a store; its file may change when a journal is written back."""

    def read(store: str) -> list[str]:
        with closing(sqlite3.connect(store)) as connection:
            return list(connection.iterdump())

    return read
