"""Public names are imported when they are first used, and say what to install."""

import importlib

import pytest

from adaptare import testing
from adaptare.core import MissingPackageError
from adaptare.core.lazy_names import lazy_names
from adaptare.search.super_adapter.model import SuperAdapter


def test_a_name_is_imported_from_its_module() -> None:
    assert lazy_names("adaptare.search")("SuperAdapter") is SuperAdapter


def test_a_name_that_is_not_there_is_told_like_any_other() -> None:
    with pytest.raises(AttributeError, match=r"module 'adaptare\.search' has no attribute 'Shelf'"):
        lazy_names("adaptare.search")("Shelf")


def test_suites_without_pytest_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'pytest'", name="pytest")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"pytest is not installed; .*pip install 'adaptare\[testing\]'"):
        testing.__getattr__("DeviceSuite")
