"""Overhead of adapters in a folder of onnxruntime-genai that a user has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def folder(run: Run, saved: Callable[..., Path], model_cache: Path) -> Path:
    adapter, base = saved(), ("--base", "tiny-random", "--cache", model_cache)
    assert run("export", adapter, "-o", "theirs", "--to", "genai", *base).code == 0
    return Path("theirs")


def overhead(run: Run, model_cache: Path, *words: object, device: str = "ort-genai:folder=theirs,threads=1") -> Any:
    short = ("--seconds", 2, "--openings", 2, "-p", 8, "-d", 8, "--cache", model_cache, "--json")
    return run("overhead", "tiny-random", *words, "--device", device, *short)


def test_an_adapter_is_measured_against_the_same_folder_without_it(
    run: Run, folder: Path, saved: Callable[..., Path], model_cache: Path
) -> None:
    before = {file.name for file in folder.iterdir()}
    written = overhead(run, model_cache, "theirs/adapter.onnx_adapter")
    assert written.code == 0, written.err
    assert {file.name for file in folder.iterdir()} == before  # the folder is somebody's
    rows = {(row["phase"], row["mode"]): row for row in written.json["rows"]}
    assert set(rows) == {("prefill", "swappable"), ("decode", "swappable")}
    assert all(row["rank"] == 4 and row["base_s"] > 0 for row in rows.values()), rows
    peft = overhead(run, model_cache, saved("other"))
    assert peft.code == 0, peft.err
    assert len(peft.json["rows"]) == 2


@pytest.mark.parametrize(
    ("words", "device", "message"),
    [
        (("--rank", 4), "ort-genai:folder=theirs,threads=1", "takes no adapter on model.layers.0.mlp.gate_proj"),
        (("--rank", 0), "ort-genai:folder=theirs", "is timed with complete models, and LoRA of rank 1 or more"),
        (("--rank", 4), "ort-genai:int4,folder=theirs", "has the weights that it has; leave int4 out"),
        (("--rank", 4), "ort-genai", "is named like ort-genai:folder=FOLDER"),
        (("--rank", 4), "ort-genai:folder=gone", "'gone' is no folder of onnxruntime-genai"),
        (("theirs/genai_config.json.onnx_adapter",), "ort-genai:folder=theirs", "is no adapter file of ONNX Runtime"),
    ],
)
def test_what_a_folder_does_not_run_is_refused(
    run: Run, folder: Path, model_cache: Path, words: tuple[object, ...], device: str, message: str
) -> None:
    answer = overhead(run, model_cache, *words, device=device)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
