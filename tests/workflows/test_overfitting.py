"""The note on a training whose validation loss rises."""

import json
from pathlib import Path

import numpy as np
import pytest

from adaptare.core.progress import Feedback
from adaptare.search import TrainingSettings
from adaptare.search.training import Remembered
from adaptare.workflows.train.result import TrainResult
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest, _warn_of_overfitting, train

TOKENS = np.full(40, 4)
LOSSES = np.linspace(8.0, 12.0, 40)


@pytest.mark.parametrize(("rise", "noted"), [(0.4, True), (-0.4, False), (0.0, False)])
def test_a_rise_of_the_validation_loss_is_noted_with_the_better_step(rise: float, noted: bool) -> None:
    notes: list[str] = []
    last = LOSSES + rise + 0.05 * np.sin(np.arange(40))
    _warn_of_overfitting({50: LOSSES + 4.0, 100: LOSSES}, last, TOKENS, Feedback(note=notes.append))
    assert bool(notes) == noted
    if noted:
        assert "rose from 2.500 after 100 steps to 2.6" in notes[0]
        assert "with about 100 steps" in notes[0]


def test_a_training_that_was_resumed_late_has_nothing_to_compare() -> None:
    notes: list[str] = []
    _warn_of_overfitting({}, LOSSES, TOKENS, Feedback(note=notes.append))
    assert not notes


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
