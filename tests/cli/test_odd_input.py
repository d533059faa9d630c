"""Files that are damaged or contradict themselves: a clear error instead of a traceback or a wrong result."""

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
PROFILE = ("profile", "tiny-random", "--device", "simulated", "--count", 14, "--openings", 2)
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


@pytest.fixture
def measured(run: Run, model_cache: Path) -> Run:
    """Runs commands in a folder with a store."""
    assert run(*PROFILE, "--cache", model_cache).code == 0
    return run


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: "junk", "measurement 3 is damaged"),
        (lambda _: [], "measurement 3 is damaged"),
        (lambda content: {**content, "workload": {**content["workload"], "shape": "0"}}, "'0' is missing"),
        (lambda content: {**content, "visits": content["visits"][1:]}, "not those of the reference"),
        (lambda content: {**content, "origin": "heaven"}, "origin must be one of measured, composed"),
        *((lambda content, s=s: with_samples(content, s), "above 0, not") for s in (float("nan"), 0.0, -1.0)),
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


@pytest.mark.parametrize("seconds", [float("nan"), 0.0, -1.0])
def test_a_predictor_without_the_time_of_its_base_is_refused(measured: Run, seconds: float) -> None:
    measured("fit", "--device", "simulated", "-o", "predictor")
    change(Path("predictor.json"), base_values={"64": seconds})
    Path("ranks.json").write_text('{"*.q_proj": 8}')
    refused(measured("predict", "predictor", "ranks.json"), "base_values must be finite numbers above 0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 8}, "has rank 8 by the config and rank 4 in the weights"),
        ({"r": 10**12}, "has rank 1000000000000 by the config"),
        ({"target_modules": ["v_proj"]}, "has no adapter by the config and rank 4 in the weights"),
        ({"target_modules": ["q_proj", "down_proj", "v_proj"]}, "rank 4 by the config and no adapter in the weights"),
        ({"target_modules": "("}, "target_modules or patterns cannot be understood"),
        ({"target_modules": 7}, "target_modules or patterns cannot be understood"),
        ({"alpha_pattern": {"(": 4}}, "target_modules or patterns cannot be understood"),
        ({"lora_alpha": []}, "lora_alpha must be finite numbers, not []"),
    ],
)
def test_a_config_that_contradicts_its_weights_is_refused(
    run: Run, model_cache: Path, saved: Callable[..., Path], settings: dict[str, object], message: str
) -> None:
    change(saved() / CONFIG, **settings)
    tail = ("--cache", model_cache)
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


def test_a_rank_that_was_never_trained_is_noted(run: Run, model_cache: Path, data: Path) -> None:
    words = ("train", "tiny-random", "-o", "run", "--steps", 2, "--data", data, "--cache", model_cache)
    assert run(*words).code == 0
    Path("ranks.json").write_text('{"*.self_attn.*": 3}')
    answer = run("export", "run", "--choice", "ranks.json", "-o", "out", "--cache", model_cache)
    assert answer.code == 0
    assert "rank 3 is no choice of the training (0, 2, 4, 8, 16), so no step has drawn it" in answer.err


def test_training_does_not_mix_its_files_with_others(run: Run, model_cache: Path, data: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("mine")
    words = ("train", "tiny-random", "--steps", 2, "--data", data, "--cache", model_cache)
    refused(run(*words, "-o", "mine"), "'mine' holds files of another program, such as 'thesis.txt'", "--output")
    refused(run(*words, "-o", data), "is a file; name a folder")
    assert [each.name for each in Path("mine").iterdir()] == ["thesis.txt"]


@pytest.fixture
def folder(run_in_copy: Callable[[Path], Run], results: Path) -> Run:
    """A folder with a training, a predictor, a store and a front."""
    return run_in_copy(results)


@pytest.fixture
def predictor(results: Path) -> str:
    return next(file.stem for file in results.glob("*.npz"))


def test_an_adapter_is_not_written_over_itself(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("--base", "tiny-random", "--cache", model_cache)
    assert run("export", "adapter", *words, "--to", "peft-uniform", "-o", "exported").code == 0
    before = Path("exported/adapter_model.safetensors").read_bytes()
    again = run("export", "exported", *words, "--to", "peft-uniform", "-o", "./exported/")
    refused(again, "is what is read and would be lost")
    assert Path("exported/adapter_model.safetensors").read_bytes() == before


def test_what_an_export_reads_beside_the_adapter_is_kept(
    run: Run, model_cache: Path, saved: Callable[..., Path]
) -> None:
    saved()
    words = ("export", "adapter", "--base", "tiny-random", "--cache", model_cache)
    assert run(*words, "--to", "merged", "-o", "whole").code == 0
    refused(
        run("export", "adapter", "--base", "whole/", "--cache", model_cache, "--to", "merged", "-o", "whole"),
        "'whole' is what is read and would be lost",
    )
    assert Path("whole/config.json").exists()


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,*.q_proj\nx,4,5\n", "line 2: a row has 2 cells"),
        ("name,*.q_proj\nx\n", "line 2: a row has 2 cells"),
        ("name,*.q_proj,*.q_proj\nx,4,8\n", "two columns of one name"),
    ],
)
def test_rows_of_a_table_of_ranks_are_complete(folder: Run, predictor: str, text: str, message: str) -> None:
    Path("ranks.csv").write_text(text)
    refused(folder("predict", predictor, "ranks.csv"), message)


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
    for _ in range(2):
        found = folder(*search, "a front.json")
        assert found.code == 0, found.err
    assert "adaptare verify 'a front.json'" in " ".join(found.out.split())
    for other in ("one.json", "my run/super_adapter.safetensors", "my predictor.json", "adaptare.db"):
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
