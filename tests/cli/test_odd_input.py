"""Files that are damaged or contradict themselves: a clear error instead of a traceback or a wrong result."""

import gc
import json
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

Run = Callable[..., Any]
PROFILE = ("profile", "tiny-random", "--device", "simulated", "--count", 14, "--openings", 1)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def refused(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer
    assert all(word in answer.err for word in words), answer.err
    assert "Traceback" not in answer.err


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_row(change: Callable[[dict[str, Any]], object]) -> None:
    connection = sqlite3.connect("adaptare.db")
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    (text,) = connection.execute("SELECT content FROM measurements WHERE id = 3").fetchone()
    connection.execute("UPDATE measurements SET content = ? WHERE id = 3", (json.dumps(change(json.loads(text))),))
    connection.commit()
    connection.close()


def with_samples(content: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {**content, "visits": [[*visit[:3], [seconds] * len(visit[3])] for visit in content["visits"]]}


@pytest.fixture(scope="module")
def store(commands_in: Callable[..., Any], model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store."""
    folder = tmp_path_factory.mktemp("store")
    with commands_in(folder) as run:
        assert run(*PROFILE, "--cache", model_cache).code == 0
    gc.collect()  # closes the store, which moves its newest rows into the file
    return folder


@pytest.fixture
def measured(run_in_copy: Callable[[Path], Run], store: Path) -> Run:
    """Runs commands in a folder with a store."""
    return run_in_copy(store)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: "junk", "measurement 3 is damaged"),
        (lambda content: {**content, "workload": {**content["workload"], "shape": "0"}}, "'0' is missing"),
        (lambda content: {**content, "visits": content["visits"][1:]}, "not those of the reference"),
        (lambda content: with_samples(content, float("nan")), "above 0, not"),
    ],
)
def test_a_damaged_row_of_a_store_is_named(
    measured: Run, damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_row(damage)
    for command in (("store",), ("fit", "--device", "simulated"), ("compare", "adaptare.db", "adaptare.db")):
        refused(measured(*command), message, "let the command store salvage what can be read")


def test_the_other_rows_of_a_damaged_store_are_kept(measured: Run) -> None:
    change_row(lambda _: "junk")
    answer = measured("store", "adaptare.db", "--salvage", "rescued.db", "--json")
    assert answer.json["kept"] == 13
    assert list(answer.json["lost"]) == ["3"]
    assert measured("fit", "--device", "simulated", "--store", "rescued.db", "--json").json["error_card"]["rows"] == 13
    refused(measured("store", "adaptare.db", "--salvage", "rescued.db"), "'rescued.db' exists")
    refused(measured("store", "missing.db", "--salvage", "other.db"), "there is no store 'missing.db'")


def test_a_salvage_without_space_leaves_no_store_and_is_repeated(
    measured: Run, files_of_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    with files_of_at_most(100_000):
        answer = measured("store", "adaptare.db", "--salvage", "rescued.db")
    refused(answer, "store 'rescued.db' cannot be written: disk I/O error")
    assert [file.name for file in Path().iterdir() if "rescued" in file.name] == []
    assert measured("store", "adaptare.db", "--salvage", "rescued.db", "--json").json["kept"] == 14


def test_a_config_that_contradicts_its_weights_is_refused(
    run: Run, model_cache: Path, saved: Callable[..., Path]
) -> None:
    change(saved() / CONFIG, r=8)
    tail, message = ("--cache", model_cache), "has rank 8 by the config and rank 4 in the weights"
    refused(run("overhead", "tiny-random", "adapter", "--device", "simulated", *tail), message)
    refused(run("export", "adapter", "--base", "tiny-random", "--to", "merged", "-o", "out", *tail), message)
    assert not Path("out").exists()


def test_an_export_of_an_adapter_without_effect_is_refused_or_noted(
    run: Run, model_cache: Path, saved: Callable[..., Path]
) -> None:
    words = ("export", "adapter", "--base", "tiny-random", "--to", "onnx", "-o", "out", "--cache", model_cache)
    change(saved() / CONFIG, lora_alpha=0)
    refused(run(*words), "lora_alpha", "is 0, so its weights change nothing")
    change(Path("adapter") / CONFIG, lora_alpha=8)
    weights = load_file(Path("adapter") / WEIGHTS)
    save_file({name: np.zeros_like(tensor) for name, tensor in weights.items()}, Path("adapter") / WEIGHTS)
    answer = run(*words)
    assert answer.code == 0
    assert "the adapter changes nothing: A or B is zero everywhere" in answer.err


@pytest.fixture
def folder(run_in_copy: Callable[[Path], Run], results: Path) -> Run:
    """A folder with a training, a predictor, a store and a front."""
    return run_in_copy(results)


def test_an_adapter_is_not_written_over_itself(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("--base", "tiny-random", "--cache", model_cache)
    assert run("export", "adapter", *words, "--to", "peft-uniform", "-o", "exported").code == 0
    before = Path("exported/adapter_model.safetensors").read_bytes()
    again = run("export", "exported", *words, "--to", "peft-uniform", "-o", "./exported/")
    refused(again, "is what is read and would be lost")
    assert Path("exported/adapter_model.safetensors").read_bytes() == before


def test_an_export_goes_to_where_a_link_points(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    Path("large disk/exported").mkdir(parents=True)
    Path("exported").symlink_to("large disk/exported")
    words = ("export", "adapter", "--base", "tiny-random", "--cache", model_cache, "--to", "peft-uniform")
    for _ in range(2):
        assert run(*words, "-o", "exported").code == 0
        assert Path("exported").is_symlink()
        assert Path("large disk/exported/adapter_config.json").exists()


def test_a_data_set_replaces_no_file_of_others(folder: Run) -> None:
    Path("project").mkdir()
    Path("project/README.md").write_text("mine")
    Path("project/costs.json").write_text('{"mine": 1}')
    words = ("dataset", "export", "adaptare.db", "-o")
    refused(folder(*words, "project"), "'project' holds files of another program")
    for table, message in (
        ("project/costs.json", "is no earlier table of costs"),
        ("none/costs.json", "no folder 'none'"),
    ):
        refused(folder(*words, "set", "--cost-table", table), message)
    assert not Path("set").exists()
    assert Path("project/README.md").read_text() == "mine"
    for _ in range(2):
        answer = folder(*words, "set")
        assert answer.code == 0, answer.err


def test_only_regular_files_are_replaced(folder: Run, tmp_path: Path) -> None:
    (tmp_path / "pipe.html").mkdir()
    answer = folder("report", "adaptare.db", "-o", "pipe.html")
    assert answer.code in (2, 3)
    assert "it is no regular file, so it is not replaced" in answer.err
    Path("figures").write_text("mine")
    refused(folder("report", "adaptare.db", "-o", "page.html", "--png", "figures"), "'figures' is a file")
    assert not Path("page.html").exists()


def test_a_search_replaces_nothing_but_its_earlier_result_and_its_commands_can_be_pasted(
    folder: Run, data: Path, model_cache: Path
) -> None:
    for suffix in (".json", ".npz"):
        Path(f"predictor{suffix}").rename(f"my predictor{suffix}")
    answer = folder("predict", "my predictor", "--rank", "4", "--budget", "overhead=900%")
    assert answer.code == 0, answer.err
    following = shlex.split(" ".join(answer.err.split("then ")[-1].split()))
    assert following == ["adaptare", "search", "FOLDER", "--predictor", "my predictor", "--budget", "overhead=900%"]
    words = ("--steps", 2, "--data", data, "--cache", model_cache, "--held-out", 8)
    assert folder("train", "tiny-random", "-o", "my run", *words).code == 0
    search = ("search", "my run", *following[3:], "--evaluations", 1, "-o")
    found = folder(*search, "a front.json", "--algorithm", "random")
    assert found.code == 0, found.err
    assert "adaptare verify 'a front.json'" in " ".join(found.out.split())
    for other in ("one.json", "my run/super_adapter.safetensors", "adaptare.db"):
        before = Path(other).read_bytes()
        refused(folder(*search, other), f"{other!r} exists and is no earlier result of a search")
        assert Path(other).read_bytes() == before


def test_a_damaged_number_does_not_make_a_salvage_endless(measured: Run) -> None:
    with sqlite3.connect("adaptare.db") as connection:
        connection.execute("DROP TRIGGER measurements_no_update")
        connection.execute("UPDATE measurements SET id = 4000000000000 WHERE id = 14")
    answer = measured("store", "adaptare.db", "--salvage", "rescued.db", "--json")
    assert answer.json["kept"] == 14
    assert answer.json["lost"] == {}
