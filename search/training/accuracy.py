"""Share of multiple-choice questions that are answered right, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.profiler.analysis import LEVEL, Interval

MAJORITY: Final = "majority"  # names of accuracies that are of no configuration
UNTRAINED: Final = "untrained"
_Z = float(special.ndtri((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Accuracy:
    """Counts of right answers to multiple-choice questions, compared with those of the untrained base.

    Args:
        name: `majority`, `untrained`, or the name of a configuration.
        questions: Number of questions.
        right: Number answered right.
        gained: Number of those that the untrained base answers wrong.
        lost: Number answered wrong that the untrained base answers right.
    """

    name: str
    questions: int
    right: int
    gained: int
    lost: int

    def __post_init__(self) -> None:
        if not (0 <= self.gained <= self.right <= self.questions and 0 <= self.lost <= self.questions - self.right):
            raise InputError(f"inconsistent counts: need gained <= right and lost <= questions - right; not {self}")

    def to_json(self) -> dict[str, Any]:
        """Counts, and intervals of the share and of the difference."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**counts, "share": to_json(self.share), "difference": to_json(self.difference)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Accuracy":
        """Inverse of `to_json`."""
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    @property
    def share(self) -> Interval:
        """Share of right answers with its 95 % interval.

        References:
            Wilson 1927, "Probable inference, the law of succession, and statistical inference".
        """
        n, share = self.questions, self.right / self.questions
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * float(np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)))
        return Interval(max(0.0, middle - half), share, min(1.0, middle + half))

    @property
    def difference(self) -> Interval:
        """Share of right answers minus that of the untrained base, with a 95 % interval over the same questions.

        References:
            Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions".
        """
        n, net = self.questions + 2, self.gained - self.lost  # half a question is added to each of four cells
        half = _Z / n * float(np.sqrt(self.gained + self.lost + 1 - net**2 / n))
        return Interval(max(-1.0, net / n - half), net / self.questions, min(1.0, net / n + half))


def accuracy_of(name: str, right: NDArray[np.bool_], untrained: NDArray[np.bool_]) -> Accuracy:
    """Counts of answers. Both of shape (n_questions,), true where right."""
    if right.shape != untrained.shape:
        raise InputError(
            f"answers to {len(right)} questions cannot be paired with those to {len(untrained)}; answer the same ones"
        )
    counts = (right, right & ~untrained, ~right & untrained)
    return Accuracy(name, len(right), *(int(answers.sum()) for answers in counts))
