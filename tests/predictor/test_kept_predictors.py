"""Predictors that earlier versions wrote."""

from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.predictor import load_predictor

KEPT = Path(__file__).parent / "kept"


@pytest.mark.parametrize("name", ["release-0-1-0", "schema-3-curved"])
def test_a_predictor_of_an_earlier_version_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(InputError, match="an earlier version wrote it; fit one to the measurements again"):
        load_predictor(KEPT / name)
