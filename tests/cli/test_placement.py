"""What a command says of where a model runs: which provider runs its nodes, and who waits for whom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.devices import torch_device

IS_DEBIAN = Path("/usr/lib/python3/dist-packages/onnxruntime").is_dir()


@pytest.mark.slow
@pytest.mark.xnnpack
@pytest.mark.skipif(not IS_DEBIAN, reason="Debian's python3-onnxruntime is not installed")
def test_the_share_of_nodes_that_a_provider_runs_is_told(run: Callable[..., Any], model_cache: Path) -> None:
    words = ("overhead", "tiny-random", "--device", "ort-xnnpack:threads=1,python=/usr/bin/python3", "-p", 0)
    answer = run(*words, "--rank", 2, "--seconds", 1, "--openings", 2, "--cache", model_cache, "--json")
    assert answer.code == 0, answer.err
    for row in answer.json["rows"]:
        assert set(row["providers"]) == {"CPUExecutionProvider", "XnnpackExecutionProvider"}
        assert row["host_share"] is None
    shares = [
        row["providers"]["XnnpackExecutionProvider"] / sum(row["providers"].values()) for row in answer.json["rows"]
    ]
    assert f"XnnpackExecutionProvider runs {min(shares):.0%} to {max(shares):.0%} of the nodes" in answer.err


@pytest.mark.slow
def test_calls_that_the_host_takes_all_the_time_to_issue_are_told(
    run: Callable[..., Any], model_cache: Path, worker_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that computes on the processor has finished when everything is issued."""
    monkeypatch.setattr(torch_device, "RUNTIME", "fake_cuda:TorchRuntime")
    words = ("overhead", "tiny-random", "--device", "torch-cuda:threads=1", "-p", 0, "--rank", 2)
    answer = run(*words, "--seconds", 1, "--openings", 2, "--cache", model_cache, "--json")
    assert answer.code == 0, answer.err
    assert all(0.9 < row["host_share"] <= 1 for row in answer.json["rows"])
    assert "2 of 2 are bound by the host: the accelerator waits for kernels to be issued; compile=yes" in answer.err
    assert answer.json["device"] == "torch-cuda:threads=1"


def test_a_gpu_that_is_not_there_is_a_failure_of_the_world(run: Callable[..., Any], model_cache: Path) -> None:
    answer = run("overhead", "tiny-random", "--device", "torch-mps", "--cache", model_cache)
    assert answer.code == 3
    assert "mps" in answer.err
