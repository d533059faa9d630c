"""The note on a training whose validation loss rises."""

import numpy as np
import pytest

from adaptare.core.progress import Feedback
from adaptare.workflows.train.training import _warn_of_overfitting

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
