"""Answers of sub-adapters to multiple-choice questions, by log-likelihood."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix, shared_prefix
from adaptare.search.training.passes import completion_nats, evaluated_at
from adaptare.search.training.token_examples import TokenExample, TokenQuestion

Scoring = Literal["sum", "per-character"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)


class Answers:
    """Answers of configurations of a super-adapter: of each question, the choice with the highest score.

    The score is the log-likelihood of the choice after the question, summed over its tokens and the end of the turn,
    just what training maximises. The end counts so that a choice that another one begins with is not favoured. Of
    equal scores the first wins. Results are cached, so the weights must not change between calls.

    The common prefix of all questions is computed once per configuration, the rest of a question once for all its
    choices.

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
        self._super_adapter = super_adapter
        self._questions = tuple(questions)
        self._scoring = scoring
        self._prefix = shared_prefix(question.prompt for question in questions)
        self._known: dict[bytes, list[NDArray[np.float64]]] = {}

    def log_likelihoods(self, codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Log-likelihood of each choice of each question, nats.

        Args:
            codes: Codes of one configuration, shape (n_columns,).

        Raises:
            InputError: One is not finite.
        """
        codes = self._super_adapter.codes(codes)
        key = codes.tobytes()
        if key not in self._known:
            with evaluated_at(self._super_adapter, codes) as model:
                prefix = CachedPrefix(model, self._prefix)
                self._known[key] = [self._of_question(prefix, question) for question in self._questions]
        return self._known[key]

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

    def _of_question(self, prefix: CachedPrefix, question: TokenQuestion) -> NDArray[np.float64]:
        asked = question.prompt
        # The last token of the prompt predicts the first of each choice.
        longer = prefix.extended(asked[len(self._prefix) : -1])
        choices = [TokenExample((*asked, *choice), len(asked)) for choice in question.choices]
        log_likelihoods = -completion_nats(self._super_adapter.model, choices, longer)
        if not np.isfinite(log_likelihoods).all():
            raise InputError(
                f"log-likelihoods of choices are {log_likelihoods.tolist()}: the base or the adapter computes numbers "
                "that are not finite; check its weights, or train again with a lower learning rate"
            )
        return log_likelihoods
