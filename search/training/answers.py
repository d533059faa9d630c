"""Answers of sub-adapters to multiple-choice questions, by log-likelihood."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.accuracy import MAJORITY, UNTRAINED, Accuracy, accuracy_of
from adaptare.search.training.quality import CompletionNats
from adaptare.search.training.token_examples import TokenQuestion

Scoring = Literal["sum", "per-character"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)


class Answers:
    """Answers of configurations of a super-adapter: of each question, the choice with the highest score.

    The score is the log-likelihood of the choice after the question, summed over its tokens and the end of the turn,
    just what training maximises. The end counts so that a choice that another one begins with is not favoured. Of
    equal scores the first wins. See `CompletionNats`.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        questions: Questions to answer.
        scoring: `sum`, or `per-character`, which divides by the number of characters of the choice: a longer one is
            less likely only because it is longer.
    """

    def __init__(
        self, super_adapter: SuperAdapter, questions: Sequence[TokenQuestion], *, scoring: Scoring = "sum"
    ) -> None:
        if not questions:
            raise InputError("accuracy needs at least one question; give examples with choices")
        if scoring not in SCORINGS:
            raise InputError(f"scoring must be one of {', '.join(SCORINGS)}, not {scoring!r}")
        self._questions = tuple(questions)
        self._scoring = scoring
        self._nats = CompletionNats(super_adapter, [question.completed for question in questions])

    def log_likelihoods(self, codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Log-likelihood of each choice of each question, nats, for one configuration, shape (n_columns,)."""
        return [-nats for nats in self._nats(codes)]

    def right(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for each question that the configuration answers right. Shape (n_columns,) -> (n_questions,)."""
        return np.array(
            [
                int(np.argmax(scores / question.characters if self._scoring == "per-character" else scores))
                == question.answer
                for scores, question in zip(self.log_likelihoods(codes), self._questions, strict=True)
            ]
        )

    def right_if_always(self, position: int) -> NDArray[np.bool_]:
        """True for each question whose right choice is at this position. Shape (n_questions,)."""
        return np.array([question.answer == position for question in self._questions])


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
    named = {MAJORITY: answers.right_if_always(majority), UNTRAINED: untrained, **right}
    return tuple(accuracy_of(name, correct, untrained) for name, correct in named.items())
