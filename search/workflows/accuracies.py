"""Accuracy of configurations on multiple-choice questions, beside the majority answer and the untrained base."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.accuracy import Accuracy, accuracy_of
from adaptare.search.training.answers import Answers
from adaptare.search.training.questions import TokenQuestion
from adaptare.search.training.scoring import Scoring
from adaptare.search.workflows.accuracy_table import UNTRAINED

Configured = tuple[SuperAdapter, NDArray[np.int64]]


def accuracies_of(
    questions: Sequence[TokenQuestion],
    configured: Mapping[str, Configured],
    *,
    base: SuperAdapter,
    majority: int,
    scoring: Scoring,
) -> tuple[Accuracy, ...]:
    """Accuracies of the majority answer, of the untrained base, and of named configurations, in this order.

    Args:
        questions: None of them trained on; without any, there are no accuracies.
        configured: Name -> super-adapter and codes of the configuration, shape (n_columns,).
        base: Super-adapter whose rank 0 everywhere is the untrained base.
        majority: Position of the most frequent right choice of the training questions.
        scoring: See `Answers`.
    """
    if not questions:
        return ()
    by_model = {id(model): Answers(model, questions, scoring=scoring) for model, _ in configured.values()}
    answers = by_model.setdefault(id(base), Answers(base, questions, scoring=scoring))
    untrained = answers.right(0 * base.largest)
    named = {"majority": answers.right_if_always(majority), UNTRAINED: untrained}
    named |= {name: by_model[id(model)].right(codes) for name, (model, codes) in configured.items()}
    return tuple(accuracy_of(name, right, untrained) for name, right in named.items())
