"""What the commands refuse of a folder of onnxruntime-genai that a user has; test_smoke.py measures one."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
FOLDER = "ort-genai:folder=theirs,threads=1"


@pytest.fixture(scope="module")
def exported(
    commands_in: Callable[..., Any],
    model_cache: Path,
    save_adapter: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `theirs`, which takes an adapter of q_proj and down_proj."""
    folder = tmp_path_factory.mktemp("genai")
    base = ("--base", "tiny-random", "--cache", model_cache)
    with commands_in(folder) as run:
        assert run("export", save_adapter(folder / "adapter"), "-o", "theirs", "--to", "genai", *base).code == 0
    gc.collect()
    return folder


@pytest.mark.parametrize(
    ("words", "device", "message"),
    [
        (("--rank", 4), FOLDER, "takes no adapter on model.layers.0.mlp.gate_proj"),
        (("--rank", 0), FOLDER, "is timed with complete models, and LoRA of rank 1 or more"),
        (("--rank", 4), "ort-genai:int4,folder=theirs", "has the weights that it has; leave int4 out"),
        (("--rank", 4), "ort-genai", "is named like ort-genai:folder=FOLDER"),
        (("--rank", 4), "ort-genai:folder=gone", "'gone' is no folder of onnxruntime-genai"),
        (("theirs/genai_config.json.onnx_adapter",), FOLDER, "is no adapter file of ONNX Runtime"),
    ],
)
def test_what_a_folder_does_not_run_is_refused(
    run_in_copy: Run, exported: Path, model_cache: Path, words: tuple[object, ...], device: str, message: str
) -> None:
    run = run_in_copy(exported)
    short = ("-p", 0, "-d", 8, "--openings", 1, "--seconds", 0.1, "--cache", model_cache)
    answer = run("overhead", "tiny-random", *words, "--device", device, *short)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
