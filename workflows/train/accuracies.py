"""Accuracy of configurations on multiple-choice questions, beside the majority answer and the untrained base."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.accuracy import Accuracy, accuracy_of
from adaptare.search.training.answers import Answers, Scoring
from adaptare.search.training.token_examples import TokenQuestion
from adaptare.workflows.train.accuracy_table import UNTRAINED


def right_answers(
    questions: Sequence[TokenQuestion], super_adapter: SuperAdapter, codes: NDArray[np.int64], *, scoring: Scoring
) -> NDArray[np.bool_]:
    """True where a configuration, codes of shape (n_columns,), answers right. Shape (n_questions,)."""
    if not questions:
        return np.empty(0, dtype=np.bool_)
    return Answers(super_adapter, questions, scoring=scoring).right(codes)


def accuracies_of(
    questions: Sequence[TokenQuestion],
    right: Mapping[str, NDArray[np.bool_]],
    *,
    base: SuperAdapter,
    majority: int,
    scoring: Scoring,
) -> tuple[Accuracy, ...]:
    """Accuracies of the majority answer, of the untrained base, and of named configurations, in this order.

    Args:
        questions: None of them trained on; without any, there are no accuracies.
        right: Name -> right answers of a configuration, see `right_answers`.
        base: Super-adapter that without ranks is the untrained base.
        majority: Position of the most frequent right choice of the training questions.
        scoring: See `Answers`.
    """
    if not questions:
        return ()
    answers = Answers(base, questions, scoring=scoring)
    untrained = answers.right(base.space.base)
    named = {"majority": answers.right_if_always(majority), UNTRAINED: untrained, **right}
    return tuple(accuracy_of(name, correct, untrained) for name, correct in named.items())
