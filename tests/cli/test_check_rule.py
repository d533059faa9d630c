"""`adaptare check` of a runtime by its rule: adapters that no rule applies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNTIMES = pytest.mark.parametrize("runtime", ["vllm", "olive"])


@RUNTIMES
def test_a_dora_is_refused(run: Callable[..., Any], saved: Callable[..., Path], runtime: str) -> None:
    answer = run("check", saved(use_dora=True), "--base", "tiny-random", "--runtime", runtime)
    assert answer.code == 2
    assert "is a DoRA; merge it" in answer.err


@RUNTIMES
def test_an_adapter_that_changed_its_base_is_refused(
    run: Callable[..., Any], saved: Callable[..., Path], runtime: str
) -> None:
    config = saved() / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "init_lora_weights": "pissa"}))
    answer = run("check", config.parent, "--base", "tiny-random", "--runtime", runtime)
    assert answer.code == 2
    assert "was initialised with 'pissa', which changes the base" in answer.err
