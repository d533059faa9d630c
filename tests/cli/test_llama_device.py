"""llama.cpp as a device of the commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.devices.agent.llama_library import CARRIERS
from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import base_file

pytestmark = pytest.mark.llama
Run = Callable[..., Any]
SHORT = ("--seconds", 2, "--openings", 2, "-p", 8, "-d", 8, "--json")


def overhead(run: Run, model_cache: Path, device: str, *words: object) -> Any:
    return run("overhead", "tiny-random", *(words or ("--rank", 4)), "--device", device, *SHORT, "--cache", model_cache)


def test_an_adapter_is_measured_against_its_base(run: Run, saved: Callable[..., Path], model_cache: Path) -> None:
    written = overhead(run, model_cache, "llama-cpu:int4,flash_attention=no,adapter_dtype=float16", saved())
    assert written.code == 0, written.err
    modes = ("swappable", "requantised")
    rows = [(row["phase"], row["mode"]) for row in written.json["rows"]]
    assert rows == [(phase, mode) for phase in ("prefill", "decode") for mode in modes]
    assert written.json["device"] == "llama-cpu:threads=1,flash_attention=no,adapter_dtype=float16"


def test_a_file_is_measured_as_it_is(run: Run, model_cache: Path) -> None:
    file = base_file(KeptFolders(model_cache, "gguf"), open_model("tiny-random", cache=model_cache).shape, "Q8_0")
    written = overhead(run, model_cache, f"llama-cpu:file={file}")
    assert written.code == 0, written.err
    assert not list(file.parent.glob("*.sha256"))


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


@pytest.mark.slow
def test_an_adapter_is_searched_and_verified_from_measurements(
    run: Run, model_cache: Path, data: Path, without_card: None
) -> None:
    cached, device = ("--cache", model_cache), ("--device", "llama-cpu:int4")
    quickly = ("--seconds", 5, "--openings", 2)
    for words in (
        ("profile", "tiny-random", *device, "-d", 8, "--count", 12, *quickly, *cached),
        ("fit", "-o", "p"),
        ("predict", "p", "--rank", "1,4", *device, "--recalibrate", *cached),
        ("train", "tiny-random", "--data", data, "-o", "trained", "--steps", 2, "--quantise", "int4", *cached),
        ("search", "trained", "--predictor", "p", "--budget", "overhead=90%", "--evaluations", 4, *cached),
    ):
        answer = run(*words)
        assert answer.code == 0, answer.err
    verified = run("verify", "trained/front.json", *quickly, "--repeats", 0, "--json", *cached)
    assert verified.code in (0, 1, 4), verified.err  # on time, late, or too few openings
    for choice in (*verified.json["winners"], *verified.json["baselines"]):
        assert not choice["measured"]["failure"]
    assert run("profile", "tiny-random", *device, "-d", 8, "--count", 12, *quickly, *cached, "--store", "b").code == 0
    compared = run("compare", "adaptare.db", "b", "--json")
    assert compared.code in (0, 1), compared.err
    assert len(compared.json["rows"]) == 12


@pytest.mark.slow
def test_a_merged_model_and_a_change_of_adapters_are_weighed(run: Run, model_cache: Path) -> None:
    written = overhead(run, model_cache, "llama-cpu:int8", "--rank", 4, "--tasks", 3)
    assert written.code == 0, written.err
    ways = {way["mode"]: way for way in written.json["merge_or_swap"]["ways"]}
    assert set(ways) == {"swappable", "requantised"}
    assert ways["requantised"]["disk_bytes"] > ways["swappable"]["disk_bytes"]
