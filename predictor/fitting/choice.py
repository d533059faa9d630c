"""Model selection: the shrunken fit, a simpler fit that is as good, or one that is clearly better."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaptare.predictor.fitting.candidates import SHRUNKEN, SIMPLER, TRANSFERRED, of_adapters

# Standard errors of the difference by which another fit must be better than the shrunken one to be chosen.
CLEARLY_BETTER = 2.0
# Likewise for the shrunken fit over a line, and for a line over a constant; with a larger margin, few noisy rows could
# never show more than a line. The shrinkage strength uses the same margin.
WORTH_ITS_COLUMNS = 0.5
# A transferred fit is not simpler, but uses more data.
TRANSFER_BETTER = 1.0


def choose_candidate(
    left_out: Mapping[str, NDArray[np.float64]], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> str:
    """Name of the shrunken fit, unless a line in sites or FLOPs is as good or any other fit is clearly better.

    A constant cannot rank, so being as good is not enough for it. A transferred fit that is better than the shrunken
    one replaces it, and then a line must be clearly better too. Each adapter counts once. A single fit is the choice.
    """
    if len(left_out) == 1:
        return next(iter(left_out))
    errors = {name: of_adapters(np.abs(predicted - ratios), groups) for name, predicted in left_out.items()}
    usual = SHRUNKEN
    if TRANSFERRED in errors and _clearly(errors[SHRUNKEN] - errors[TRANSFERRED], TRANSFER_BETTER):
        usual = TRANSFERRED
    better = [name for name in errors if _clearly(errors[usual] - errors[name], CLEARLY_BETTER)]
    as_good = [
        name
        for name in SIMPLER
        if usual == SHRUNKEN
        and _clearly(errors["constant"] - errors[name], WORTH_ITS_COLUMNS)
        and not _clearly(errors[name] - errors[SHRUNKEN], WORTH_ITS_COLUMNS)
    ]
    return min([*better, *as_good] or [usual], key=lambda name: float(errors[name].mean()))


def reason_for(
    chosen: str, left_out: Mapping[str, NDArray[np.float64]], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> str:
    """Readable reason for the choice of a candidate."""
    if len(left_out) == 1:
        return "the requested regressor"
    if chosen == SHRUNKEN:
        return (
            "no line in sites or FLOPs is as good, nor another fit better by two standard errors, on held-out adapters"
        )
    errors = {name: of_adapters(np.abs(left_out[name] - ratios), groups) for name in (SHRUNKEN, chosen)}
    gains = errors[SHRUNKEN] - errors[chosen]
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    difference = f"{100 * abs(gains.mean()):.2f} ± {100 * error:.2f} points of overhead"
    as_good = "simpler, and as good: " if chosen in SIMPLER and not _clearly(gains, CLEARLY_BETTER) else ""
    side = "below" if gains.mean() >= 0 else "above"
    return f"{as_good}its error on held-out adapters is {difference} {side} that of the shrunken fit"


def _clearly(gains: NDArray[np.float64], standard_errors: float) -> bool:
    return bool(gains.mean() > standard_errors * gains.std(ddof=1) / np.sqrt(len(gains)))
