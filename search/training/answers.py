"""Answers of sub-adapters to multiple-choice questions, by log-likelihood."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.accuracy import MAJORITY, UNTRAINED, Accuracy, accuracy_of
from adaptare.search.training.quality import CompletionNats
from adaptare.search.training.remembered import Remembered
from adaptare.search.training.token_examples import TokenQuestion

Scoring = Literal["sum", "per-character"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)


class Answers:
    """Answers of configurations of a super-adapter: of each question, the choice with the highest score.

    The score is the log-likelihood of the choice after the question, summed over its tokens and the end of the turn,
    just what training maximises. The end counts so that a choice that another one begins with is not favoured. Of
    equal scores the first wins.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        questions: None of them trained on; there may be none.
        scoring: `sum`, or `per-character`, which divides by the number of characters of the choice: a longer one is
            less likely only because it is longer.
        remembered: Likelihoods of earlier calls for the same weights.
    """

    def __init__(
        self,
        super_adapter: SuperAdapter,
        questions: Sequence[TokenQuestion],
        *,
        scoring: Scoring = "sum",
        remembered: Remembered | None = None,
    ) -> None:
        if scoring not in SCORINGS:
            raise InputError(f"scoring must be one of {', '.join(SCORINGS)}, not {scoring!r}")
        self._super_adapter = super_adapter
        self._questions = tuple(questions)
        self._scoring = scoring
        groups = [question.completed for question in questions]
        self._nats = CompletionNats(super_adapter, groups, remembered=remembered)

    def log_likelihoods(self, codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Log-likelihood of each choice of each question, nats, for one configuration, shape (n_columns,)."""
        return [-nats for nats in self._nats(codes)]

    def right(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for each question that the configuration answers right. Shape (n_columns,) -> (n_questions,)."""
        found = zip(self.log_likelihoods(codes), self._questions, strict=True) if self._questions else ()
        weighed = (
            (scores / question.characters if self._scoring == "per-character" else scores, question.answer)
            for scores, question in found
        )
        return np.array([int(np.argmax(scores)) == answer for scores, answer in weighed], dtype=np.bool_)

    def accuracies(self, right: Mapping[str, NDArray[np.bool_]], *, majority: int) -> tuple[Accuracy, ...]:
        """Accuracies of the majority answer, of the untrained base, and of named configurations, in this order.

        Args:
            right: Name -> right answers of a configuration to these questions, see `right`.
            majority: Position of the most frequent right choice of the training questions.
        """
        if not self._questions:
            return ()
        untrained = self.right(self._super_adapter.space.base)
        always = np.array([question.answer == majority for question in self._questions])
        named = {MAJORITY: always, UNTRAINED: untrained, **right}
        return tuple(accuracy_of(name, correct, untrained) for name, correct in named.items())
