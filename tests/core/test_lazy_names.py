"""Public names are imported when they are first used, and say what to install."""

import importlib

import pytest

from adaptare.core import MissingPackageError
from adaptare.core.lazy_names import lazy_names


def test_a_name_is_imported_from_its_module() -> None:
    assert (
        lazy_names("collections", {"Mapping": "abc"})("Mapping") is importlib.import_module("collections.abc").Mapping
    )


def test_a_name_that_is_not_there_is_told_like_any_other() -> None:
    with pytest.raises(AttributeError, match="module 'collections' has no attribute 'Shelf'"):
        lazy_names("collections", {"Mapping": "abc"})("Shelf")


def test_suites_without_pytest_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'pytest'", name="pytest")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"pytest is not installed; .*pip install 'adaptare\[testing\]'"):
        lazy_names("adaptare.testing", {"DeviceSuite": "device"})("DeviceSuite")
