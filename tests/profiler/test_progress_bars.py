import pytest
from transformers.utils import logging

from adaptare.profiler.models.model_cache import without_bars


def test_bars_are_off_within_and_as_before_afterwards() -> None:
    logging.enable_progress_bar()
    with without_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()


def test_bars_come_back_after_an_error() -> None:
    logging.enable_progress_bar()
    with pytest.raises(ValueError, match="broken"), without_bars():
        raise ValueError("broken")
    assert logging.is_progress_bar_enabled()


def test_bars_that_were_off_stay_off() -> None:
    logging.disable_progress_bar()
    try:
        with without_bars():
            pass
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.enable_progress_bar()
