"""What needs torch is imported when it is first used, and says what to install."""

import importlib

import pytest

from adaptare import search
from adaptare.core import MissingPackageError


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"torch is not installed; .*pip install 'adaptare\[torch\]'"):
        search.__getattr__("SuperAdapter")
