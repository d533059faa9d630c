"""Tasks of super-adapters in files of this version and of earlier ones."""

import json
from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.search import TrainingSettings, read_budget
from adaptare.workflows.train.task import Task, TrainingData, check_unclaimed, load_task, save_task
from adaptare.workflows.train.training import TrainRequest, train

TASK = Task(Path("/model"), "some model", TrainingData(3, Path("/data.jsonl"), test=Path("/t.jsonl")), "int4", "sqft")


def test_a_task_comes_back(tmp_path: Path) -> None:
    save_task(TASK, tmp_path)
    assert load_task(tmp_path) == TASK


def test_a_task_of_version_0_2_0_dev0_is_read(tmp_path: Path) -> None:
    content = {"schema": 1, "model": "/model", "model_name": "some model", "data": "/data.jsonl", "seed": 3}
    content |= {"max_tokens": 64, "held_out": 48, "quantisation": "int4", "recipe": "sqft"}
    content |= {"validation": None, "test": "/t.jsonl", "scoring": "sum"}
    (tmp_path / "task.json").write_text(json.dumps(content))
    assert load_task(tmp_path) == TASK


@pytest.mark.parametrize("content", ["{}", '{"schema": 2}', '{"schema": 2, "model": 3}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(InputError, match="holds no trained super-adapter; name the folder of a training"):
        load_task(tmp_path)


def test_a_budget_for_adapters_that_are_always_merged_is_refused(tmp_path: Path, model_cache: Path) -> None:
    request = TrainRequest(
        "tiny-random",
        tmp_path / "run",
        TrainingData(0),
        TrainingSettings(2, 0),
        recipe="sqft-sparsepeft",
        predictor=tmp_path / "predictor",
        budget=read_budget("overhead=5%"),
        cache=model_cache,
    )
    with pytest.raises(InputError, match="'sqft-sparsepeft' are merged, so all take as long as their base; give no"):
        train(request)


def test_a_folder_of_another_task_names_what_differs(tmp_path: Path) -> None:
    save_task(TASK, tmp_path)
    check_unclaimed(TASK, tmp_path)
    other = Task(TASK.model, TASK.model_name, TrainingData(3, Path("/data.jsonl")), "int4", "sqft")
    with pytest.raises(InputError, match=r"is of another task: test '/t.jsonl', not None; use another folder"):
        check_unclaimed(other, tmp_path)
