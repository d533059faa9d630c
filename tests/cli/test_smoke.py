"""One path through each real part: an adapter saved by PEFT is measured on each device and checked in each runtime."""

import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TESTS = Path(__file__).parents[1]
BROWSER = runpy.run_path(str(TESTS / "contracts" / "browser_device.py"))
XNNPACK = Path("/usr/lib/python3/dist-packages/onnxruntime")
NO_XNNPACK = pytest.mark.skipif(not XNNPACK.is_dir(), reason="Debian's python3-onnxruntime is not installed")
SHORT = ("--openings", 1, "--seconds", 0.3, "--json")
pytestmark = [pytest.mark.smoke, pytest.mark.slow]


@contextmanager
def started(name: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Spelling of a device, behind a transport if it is named `adb`, `ssh` or `browser`."""
    if name == "browser":
        with BROWSER["opened"]("smoke", folder / "browser"):
            yield "browser:smoke/ort-web:int4,threads=1"
    elif name == "adb":
        yield request.getfixturevalue("phone")().spelling
    elif name == "ssh":
        server = request.getfixturevalue("ssh_server")()
        server.add_python()
        yield server.spelling
    else:
        yield name


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("torch-cpu:threads=1", {"swappable", "merged"}),
        ("ort-cpu:int4,threads=1", {"swappable", "static", "requantised"}),
        pytest.param("ort-native:threads=1", {"swappable", "static", "merged"}, marks=pytest.mark.native),
        pytest.param("adb", {"swappable", "static", "merged"}, marks=[pytest.mark.adb, pytest.mark.native]),
        pytest.param("ssh", {"swappable", "static", "merged"}, marks=pytest.mark.ssh),
        pytest.param("browser", {"swappable", "static", "requantised"}, marks=BROWSER["MARKS"]),
        pytest.param(
            "ort-xnnpack:threads=1,python=/usr/bin/python3",
            {"swappable", "static", "merged"},
            marks=[pytest.mark.xnnpack, NO_XNNPACK],
        ),
        pytest.param("llama-cpu:int4,threads=1", {"swappable", "requantised"}, marks=pytest.mark.llama),
        pytest.param(
            "openvino-cpu:threads=1,execution_mode=accuracy",
            {"swappable", "static", "merged"},
            marks=pytest.mark.openvino,
        ),
    ],
)
def test_an_adapter_is_measured_against_its_base(
    name: str,
    modes: set[str],
    run: Run,
    saved: Callable[..., Path],
    model_cache: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    with started(name, tmp_path, request) as device:
        answer = run(
            "overhead", "tiny-random", saved(), "-p", 0, "-d", 4, "--device", device, *SHORT, "--cache", model_cache
        )
    assert answer.code == 0, answer.err
    assert not answer.json["failures"]
    assert {row["mode"] for row in answer.json["rows"]} == modes
    assert all(row["base_s"] > 0 and row["latency"]["middle"] > 0 for row in answer.json["rows"])


def compare_with_peft(run: Run, adapter: Path, runtime: str, kind: str, *base: object, rounded: bool = False) -> None:
    """Exports an adapter and compares what its runtime computes with PEFT."""
    answer = run("export", adapter, "--to", kind, "-o", "out", *base, *(("--quantise", "int4") if rounded else ()))
    assert answer.code == 0, answer.err
    answer = run("check", adapter, "--runtime", runtime, "--file", "out", *base, "--json")
    assert answer.code == 0, answer.out + answer.err
    assert answer.json["finding"]["verdict"] == "applied"


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [("peft", "peft-portable"), ("genai", "genai"), pytest.param("openvino", "openvino", marks=pytest.mark.openvino)],
)
def test_an_export_computes_the_tokens_of_peft(
    runtime: str, kind: str, run: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    compare_with_peft(run, saved(), runtime, kind, "--base", "tiny-random", "--cache", model_cache)


def test_a_folder_of_genai_is_measured_with_its_own_adapter(
    run: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    words = ("--base", "tiny-random", "--cache", model_cache)
    assert run("export", saved(), "-o", "theirs", "--to", "genai", *words).code == 0
    device, adapter = "ort-genai:folder=theirs,threads=1", "theirs/adapter.onnx_adapter"
    answer = run("overhead", "tiny-random", adapter, "--device", device, "-p", 0, "-d", 4, *SHORT, *words[2:])
    assert answer.code == 0, answer.err
    assert [row["mode"] for row in answer.json["rows"]] == ["swappable"]


@pytest.mark.demo_model
def test_the_model_of_the_demo_is_measured_and_generates_the_tokens_of_peft(run: Run, model_cache: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from adaptare.profiler import open_model
    from adaptare.search import load_base

    base, _ = load_base(open_model("smollm2-135m", cache=model_cache).weights_folder())
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["down_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained("mine")
    words = ("--device", "ort-cpu:int4,threads=1", "-p", 0, "-d", 4, *SHORT, "--cache", model_cache)
    answer = run("overhead", "smollm2-135m", "mine", *words)
    assert answer.code == 0, answer.err
    assert {row["mode"] for row in answer.json["rows"]} == {"swappable", "static", "requantised"}
    base = ("--base", "smollm2-135m", "--cache", model_cache)
    compare_with_peft(run, Path("mine"), "onnx", "onnx-swappable", *base, rounded=True)
