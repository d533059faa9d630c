"""Formats of training data on the command line, and accuracy beside the majority and the untrained base."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TRAIN = ("train", "tiny-random", "--steps", 4, "--space", "sites", "--held-out", 8)


def commonsense(numbers: Sequence[int]) -> str:
    """A JSON array as LLM-Adapters has it: which of two numbers is larger."""
    rows = [
        {
            "instruction": f"Larger: Answer1: {a} Answer2: {b}\n\nAnswer format: answer1/answer2",
            "input": "",
            "output": f"the correct answer is answer{1 if a > b else 2}",
            "answer": f"answer{1 if a > b else 2}",
        }
        for a in numbers
        for b in range(10)
        if a != b
    ]
    return json.dumps(rows, indent=4)


def conversations() -> str:
    """JSON lines of two turns of the user and of the assistant each."""
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Add."},
                {"role": "user", "content": f"{a} + {b}?"},
                {"role": "assistant", "content": str(a + b)},
                {"role": "user", "content": "And 1?"},
                {"role": "assistant", "content": str(a + b + 1)},
            ]
        }
        for a in range(5)
        for b in range(6)
    ]
    return "\n".join(map(json.dumps, rows))


def written(name: str, content: str) -> Path:
    Path(name).write_text(content)
    return Path(name)


def test_an_array_of_questions_trains_and_is_judged_beside_majority_and_untrained(run: Run, model_cache: Path) -> None:
    data = written("train.json", commonsense(range(6)))
    words = (*TRAIN, "-o", "run", "--data", data, "--cache", model_cache, "--max-tokens", 200)
    answer = run(*words, "--json")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in answer.json["accuracies"]}
    assert list(rows) == ["majority", "untrained", "trained"]
    for row in rows.values():
        assert row["questions"] == 8
        assert row["share"]["middle"] == row["right"] / 8
        assert row["difference"]["middle"] == pytest.approx(
            row["share"]["middle"] - rows["untrained"]["share"]["middle"]
        )
    difference = answer.json["loss_difference"]
    assert difference["middle"] == pytest.approx(answer.json["full_loss"] - answer.json["base_loss"])
    assert difference["lower"] < difference["middle"] < difference["upper"]


def test_conversations_train(run: Run, model_cache: Path) -> None:
    data = written("chat.json", conversations())
    answer = run(*TRAIN, "-o", "run", "--data", data, "--cache", model_cache, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["accuracies"] == []
    assert answer.json["examples"] == 2 * (30 - 2 * 4)  # 15 % of 30 conversations twice, of two turns each


@pytest.mark.slow
def test_search_and_verify_say_the_accuracy_on_test_questions(run: Run, model_cache: Path) -> None:
    device, cache = ("--device", "simulated"), ("--cache", model_cache)
    files = ("--data", written("train.json", commonsense(range(6))), "--test", written("t.json", commonsense([7, 8])))
    options = ("--max-tokens", 200, "--scoring", "per-character")
    assert run("profile", "tiny-random", *device, *cache, "--space", "sites", "--count", 24).code == 0
    assert run("fit", *device).code == 0
    assert run(*TRAIN, "-o", "run", *files, *options, *cache).code == 0
    task = json.loads(Path("run/task.json").read_text())
    data = task["data"]
    assert (Path(data["test"]).name, data["validation"], data["scoring"]) == ("t.json", None, "per-character")
    search = ("search", "run", "--predictor", "predictor-decode", "--budget", "overhead=40%", "--evaluations", 6)
    found = run(*search, "--json").json
    named = [each["name"] for each in (*found["winners"], *found["baselines"])]
    assert [row["name"] for row in found["accuracies"]] == ["majority", "untrained", *named]
    assert {row["questions"] for row in found["accuracies"]} == {8}
    assert found["winners"][0]["loss_difference"] == {"lower": 0, "middle": 0, "upper": 0}
    for each in found["baselines"]:
        lower, middle, upper = (each["loss_difference"][end] for end in ("lower", "middle", "upper"))
        assert middle == pytest.approx(each["test_loss"] - found["winners"][0]["test_loss"])
        assert lower <= middle <= upper
    assert "Accuracy on 8 test questions" in run(*search).out
    verified = run("verify", "run/front.json", "--openings", 1, "--json")
    assert verified.json["accuracies"] == found["accuracies"]


def test_files_that_share_a_prompt_are_refused(run: Run, model_cache: Path) -> None:
    data, test = written("train.json", commonsense(range(6))), written("test.json", commonsense([5, 6]))
    answer = run(*TRAIN, "-o", "run", "--data", data, "--test", test, "--cache", model_cache)
    assert answer.code == 2
    assert "prompts for test are prompts for train too, such as 'Larger: Answer1: 5" in answer.err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"prompt": "a", "completion": "b"}\n\n{"prompt": "a"', "line 3"),
        ('[{"prompt": "a", "completion": NaN}]', "row 1: 'completion' must be a text that is not empty, not nan"),
    ],
)
def test_data_in_no_format_is_refused(run: Run, model_cache: Path, content: str, message: str) -> None:
    answer = run(*TRAIN, "-o", "run", "--data", written("data.json", content), "--cache", model_cache)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not Path("run").exists()
