"""Content of predictor files of earlier versions in the present form."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.predictor.intervals import PRIOR, base_spread
from adaptare.profiler.store import LATENCY

Arrays = Mapping[str, NDArray[Any]]
# Prefix of the arrays of a regressor.
STATE = "state."
# Residual of a row that was measured to take nothing.
LEAST = -0.999
# Number of residuals that represent a half width.
STANDING_FOR = 99


def upgraded(content: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    """Content and arrays of schema 1 to 4 as those of schema 5.

    In schema 4 the error does not depend on the configuration, residuals are shares of the prediction, and the spread
    of the base is not known, which then is the prior. Files of schema 1, of release 0.1.0, and 2 do not name their
    regressor; schema 1 has a half width in place of the residuals, and may lack the spread of sessions, which then is
    the prior. Raises `InputError` if it was interpolated between lengths.
    """
    if "largest" in arrays:
        return content, arrays
    if "reference" not in content:
        logs = np.log1p(np.maximum(arrays["residuals"], LEAST))
        spread = to_json(base_spread(np.zeros(1)))
        return {**content, "base_spread": spread}, {**arrays, "residuals": logs, "largest": np.empty(0)}
    bare = {name: array for name, array in arrays.items() if name not in ("residuals", "feature_range", "half_width")}
    own = {"regressor": "curved" if "curve_rows_0" in bare else "shrunken", "package": "adaptare", "share": 1.0}
    parts = content.get("parts") or [own]
    if len(parts) > 1 or "basis.0" in arrays:
        raise InputError(
            "an earlier version interpolated it between two lengths; fit one predictor to the rows of both lengths"
        )
    level, card = float(content["level"]), content["error_card"]
    half_width = arrays.get("half_width")
    kept = {name: array for name, array in arrays.items() if name in ("residuals", "feature_range")}
    kept |= {} if half_width is None else {"residuals": _residuals_of(float(half_width), level)}
    kept |= {f"{STATE}{name.removeprefix('state.0.')}": array for name, array in bare.items()}
    made = {
        **{name: content[name] for name in ("arrays_sha256", "versions", "shapes", "template", "chosen", "workloads")},
        "device": content["device"],
        "base": content["reference"],
        "base_values": {str(content["reference"]["length"]): content["reference_s"]},
        "source": content.get("source"),
        "level": level,
        "features": {feature["name"]: feature["unit"] for feature in content["features"]},
        "regressor": parts[0]["regressor"],
        "package": parts[0]["package"],
        "scale": parts[0]["share"],
        "spread": content.get("session_spread")
        or to_json(PRIOR.spread(np.full(card["sessions"], 1 / card["sessions"]))),
        "error_card": card,
        "quantity": LATENCY,
        "unit": "s",
    }
    return upgraded(made, kept)


def _residuals_of(half_width: float, level: float) -> NDArray[np.float64]:
    """Residuals, evenly spread to both sides, whose interval at a level has the given half width."""
    ranks = np.arange(1, STANDING_FOR + 1)
    residuals: NDArray[np.float64] = (-1.0) ** ranks * half_width / level * ranks / (STANDING_FOR + 1)
    return residuals
