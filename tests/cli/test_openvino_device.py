"""OpenVINO as a device of the commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.openvino
Run = Callable[..., Any]
SHORT = ("--seconds", 2, "--openings", 2, "-p", 8, "-d", 8, "--json")


def overhead(run: Run, model_cache: Path, device: str) -> Any:
    return run("overhead", "tiny-random", "--rank", 4, "--device", device, *SHORT, "--cache", model_cache)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("openvino-cpu:execution_mode=fast", "execution_mode must be one of performance, accuracy, not 'fast'"),
        ("openvino-cpu:device=NPU", "openvino finds no device 'NPU' here; it finds"),
        ("openvino-cpu:kv_cache_precision=f99", "Wrong value f99 for property key KV_CACHE_PRECISION"),
    ],
)
def test_what_cannot_be_used_is_named(run: Run, model_cache: Path, device: str, message: str) -> None:
    answer = overhead(run, model_cache, device)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


def test_a_missing_package_comes_with_its_extra(
    run: Run, model_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['openvino'] = None\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    answer = overhead(run, model_cache, "openvino-cpu")
    assert answer.code == 2
    assert "openvino is not installed; install it with: pip install 'adaptare[openvino]'" in " ".join(
        answer.err.split()
    )
