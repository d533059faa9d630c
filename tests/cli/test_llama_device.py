"""llama.cpp as a device of the commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.devices.agent.llama_library import CARRIERS

pytestmark = pytest.mark.llama
Run = Callable[..., Any]


def overhead(run: Run, model_cache: Path, device: str) -> Any:
    return run("overhead", "tiny-random", "--rank", 4, "--device", device, "-p", 0, "-d", 8, "--cache", model_cache)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("llama-cpu:file=gone.gguf", "'gone.gguf' cannot be read: No such file"),
        (f"llama-cpu:file={__file__}", "is no GGUF file; convert the model"),
        ("llama-cpu:flash_attention=on", "flash_attention must be one of auto, yes, no, not 'on'"),
        ("llama-cpu:library=gone.so", "there is no library 'gone.so'"),
        (f"llama-cpu:library={__file__}", "cannot be loaded as a library"),
    ],
)
def test_what_cannot_be_used_is_named(run: Run, model_cache: Path, device: str, message: str) -> None:
    answer = overhead(run, model_cache, device)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


def test_a_missing_package_comes_with_its_extra(
    run: Run, model_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = ", ".join(f"{module}=None" for _, module, _ in CARRIERS)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update({modules})\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    answer = overhead(run, model_cache, "llama-cpu")
    assert answer.code == 2
    assert "xllamacpp is not installed; install it with: pip install 'adaptare[llama]'" in " ".join(answer.err.split())
