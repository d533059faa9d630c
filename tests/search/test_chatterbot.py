import importlib.util

import pytest

from adaptare.core import MissingPackageError
from adaptare.search.training.chatterbot import chatterbot_examples
from adaptare.search.training.data import Example


def test_questions_come_with_their_answers() -> None:
    pytest.importorskip("chatterbot_corpus")
    examples = chatterbot_examples()
    assert Example("I forgot my password.", "Use the password reset option or contact your admin.") in examples
    assert Example("Who was the 37th President of the United States?", "Richard Nixon") in examples
    assert len(set(examples)) > 700


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'adaptare\[demo\]'"):
        chatterbot_examples()
