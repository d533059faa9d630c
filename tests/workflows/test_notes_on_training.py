"""Notes on a training that is no better than what needs none, or whose validation loss rises."""

import json
from pathlib import Path

import numpy as np
import pytest

from adaptare.core.progress import Feedback
from adaptare.search import TrainingSettings
from adaptare.search.training import Remembered
from adaptare.workflows.train.result import TrainResult
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import (
    TrainRequest,
    _warn_of_a_worse_cut,
    _warn_of_no_signal,
    _warn_of_overfitting,
    train,
)

TOKENS = np.full(40, 4)
NOISE = np.sin(np.arange(40))
LOSSES = np.linspace(8.0, 12.0, 40)


@pytest.mark.parametrize(
    ("base", "constant", "words"),
    [
        (10.0, 9.0, None),
        (8.0, 9.0, "not measurably lower than that without adapter (+0.0"),
        (10.0, 7.0, "not measurably lower than that of frequencies of tokens without any prompt (+0.2"),
    ],
)
def test_a_training_that_is_no_better_is_noted_with_the_better_rival(
    base: float, constant: float, words: str | None
) -> None:
    notes: list[str] = []
    others = {"without adapter": base + NOISE, "of frequencies of tokens without any prompt": constant - NOISE}
    _warn_of_no_signal(np.full(40, 8.1) + 0.1 * NOISE, others, TOKENS, Feedback(note=notes.append))
    assert bool(notes) == bool(words)
    assert all(words in note for note in notes if words)


@pytest.mark.parametrize(("rise", "noted"), [(0.4, True), (0.0, False), (-0.4, False)])
def test_a_smaller_model_that_is_worse_than_its_base_is_noted(rise: float, noted: bool) -> None:
    notes: list[str] = []
    _warn_of_a_worse_cut(8 + rise + 0.1 * NOISE, np.full(40, 8.0), TOKENS, Feedback(note=notes.append))
    assert [f"than the base without adapter (+{rise / 4:.1f}" in note for note in notes] == [True] * noted


@pytest.mark.parametrize(("recipe", "noted"), [("lonas", True), pytest.param("shears", False, marks=pytest.mark.slow)])
def test_only_recipes_that_cut_the_base_are_compared_with_it(
    tmp_path: Path, model_cache: Path, recipe: str, noted: bool
) -> None:
    """A learning rate that is far too high makes every choice worse than the base."""
    rows = [{"prompt": f"Is {number} right?", "completion": f"it is {number}"} for number in range(80)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes: list[str] = []
    settings = TrainingSettings(3, 0, learning_rate=0.9)
    data = TrainingData(0, tmp_path / "data.jsonl")
    request = TrainRequest("tiny-random", tmp_path / "run", data, settings, recipe=recipe, cache=model_cache)
    result = train(request, feedback=Feedback(note=notes.append))
    assert result.start_loss > result.base_loss
    assert any("the recipe's choice, a smaller model, has a higher validation loss" in each for each in notes) == noted


def test_answers_that_do_not_depend_on_prompts_are_noted(tmp_path: Path, model_cache: Path) -> None:
    """A short training knows less than the frequencies of two answers."""
    rows = [{"prompt": f"Is {number} right?", "completion": "yes" if number % 3 else "no"} for number in range(80)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes: list[str] = []
    data = TrainingData(0, tmp_path / "data.jsonl")
    request = TrainRequest("tiny-random", tmp_path / "run", data, TrainingSettings(2, 0), cache=model_cache)
    result = train(request, feedback=Feedback(note=notes.append))
    assert result.constant_loss is not None
    assert result.constant_loss < 1 < result.full_loss
    assert any("than that of frequencies of tokens without any prompt" in note for note in notes)


@pytest.mark.parametrize(("rise", "noted"), [(0.4, True), (-0.4, False), (0.0, False)])
def test_a_rise_of_the_validation_loss_is_noted_with_the_better_step(rise: float, noted: bool) -> None:
    notes: list[str] = []
    last = LOSSES + rise + 0.05 * NOISE
    _warn_of_overfitting({50: LOSSES + 4.0, 100: LOSSES}, last, TOKENS, Feedback(note=notes.append))
    assert bool(notes) == noted
    if noted:
        assert "rose from 2.500 after 100 steps to 2.6" in notes[0]
        assert "with about 100 steps" in notes[0]


def test_looks_are_kept_and_those_beyond_the_steps_that_were_made_do_not_count(
    tmp_path: Path, model_cache: Path
) -> None:
    """Losses of zero stand for a look before overfitting; each look is at a third of the steps."""
    rows = [{"prompt": f"{number} and 1", "completion": f"{number + 1}"} for number in range(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes: list[str] = []
    run, data = tmp_path / "run", TrainingData(0, tmp_path / "data.jsonl")

    def trained(max_seconds: float | None) -> TrainResult:
        request = TrainRequest(
            "tiny-random", run, data, TrainingSettings(6, 0), max_seconds=max_seconds, cache=model_cache
        )
        return train(request, feedback=Feedback(note=notes.append))

    assert trained(0.0).steps == 1
    looks = Remembered(run / "looks.jsonl")
    looks.keep(4, np.zeros(6))
    assert trained(0.0).steps < 4
    assert not any("overfits" in note for note in notes)
    assert trained(None).steps == 6
    assert Remembered(run / "looks.jsonl").find(2) is not None
    looks.keep(4, np.zeros(6))
    trained(None)
    assert sum("rose from 0.000 after 4 steps" in note for note in notes) == 1
