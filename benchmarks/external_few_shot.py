"""Latency of any architecture from tens of measured ones and their hardware demands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from external_averaged import Averaged
from external_corrected import Corrected, Smooth
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import make_pipeline

from adaptare.core import InputError
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.shrunken import ShrunkenLinear

# Down to least squares in all columns, since only the residual of the physical fit is shrunk.
STRENGTHS = (float("inf"), *np.logspace(3, -6, 37).tolist())


@dataclass(frozen=True)
class Columns:
    """Meaning of the columns of a feature matrix.

    To predict custom architectures, build a matrix with one row per architecture, whose columns are quantities that a
    call needs, and declare the role of each column here:

        columns = Columns(("flops", "layers", "wide", "depth"), size=0, work=(0, 1), details=(2,), smooth=(3,))
        few_shot(columns).fit(X_measured, seconds).predict(X_all)

    Args:
        names: One for each column, with its unit where that is not obvious.
        size: The column that latency is proportional to by default, such as FLOPs.
        work: Columns with a non-negative coefficient: calls, bytes, FLOPs, by kind of operator.
        details: Columns with a coefficient of either sign, such as the effect of one width; few of them are needed, and
            with few rows none is used.
        smooth: Columns that latency depends on smoothly, in an unknown form, such as widths and depths.
    """

    names: tuple[str, ...]
    size: int
    work: tuple[int, ...]
    details: tuple[int, ...] = ()
    smooth: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        used = {self.size, *self.work, *self.details, *self.smooth}
        if outside := [column for column in used if not 0 <= column < len(self.names)]:
            raise InputError(f"columns must be 0 to {len(self.names) - 1}, as there are names, not {outside[0]}")
        if not self.work:
            raise InputError("at least one column must be work, such as FLOPs")


def few_shot(columns: Columns) -> Averaged:
    """Unfitted regressor of seconds: average of the candidates whose cross-validated error is close to the best.

    Candidates: affine in the size; non-negative coefficients of all work; the latter corrected by coefficients of the
    details; or by a smooth function; a smooth function alone, within a factor of three around the median.
    """
    physical = NonNegativeLinear()
    candidates: list[tuple[str, Any]] = [("affine", _seeing((columns.size,), NonNegativeLinear()))]
    candidates.append(("non-negative", _seeing(columns.work, physical)))
    if columns.details:
        seen = (*columns.work, *columns.details)
        detailed = Corrected(physical, ShrunkenLinear(strengths=STRENGTHS), columns.work, seen, per_mean=True)
        candidates.append(("detailed", detailed))
    if columns.smooth:
        candidates.append(("smooth correction", Corrected(physical, Smooth(), columns.work, columns.smooth)))
        alone = Corrected(DummyRegressor(strategy="median"), Smooth(), correction_columns=columns.smooth)
        candidates.append(("smooth", alone))
    return Averaged(candidates)


def _seeing(chosen: Sequence[int], regressor: Any) -> Any:
    return make_pipeline(ColumnTransformer([("kept", "passthrough", list(chosen))]), regressor)
