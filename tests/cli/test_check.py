"""`adaptare check`: adapters that are applied right are not accused, and each fault is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mixed_ranks import MIXED
from safetensors.torch import load_file, save_file

from adaptare.profiler import open_model

Run = Callable[..., Any]
Q, K, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.1.mlp.down_proj"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def place(shared_folder: Path, model_cache: Path) -> Path:
    """Folder with an adapter of mixed ranks and scales that PEFT saved, `mine`, and another one, `rooted`."""
    from peft import LoraConfig, get_peft_model

    from adaptare.search import load_base

    made = shared_folder / "check"
    if not made.exists():
        folder = open_model("tiny-random", cache=model_cache).weights_folder()
        for name, settings in {"mine": MIXED, "rooted": {**MIXED, "use_rslora": True}}.items():
            model, _ = load_base(folder)
            torch.manual_seed(1)
            config = LoraConfig(init_lora_weights=False, **settings)
            get_peft_model(model, config).save_pretrained(made / name)
            change_config(made / name, lambda content: content.update(base_model_name_or_path="tiny-random"))
    return made


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "adapter_config.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def half(path: str, name: str) -> str:
    return f"base_model.model.{path}.lora_{name}.weight"


@pytest.fixture
def check(run: Run, place: Path, model_cache: Path) -> Run:
    """Runs `check` of an adapter, in a folder where it is."""
    shutil.copytree(place, ".", dirs_exist_ok=True)
    return lambda adapter, runtime, *words: run("check", adapter, "--runtime", runtime, *words, "--cache", model_cache)


@pytest.fixture
def export(run: Run, place: Path, model_cache: Path) -> Callable[..., Path]:
    """Exports an adapter; each export is made once."""

    def write(adapter: str, kind: str, *words: str, base: str = "tiny-random") -> Path:
        kept = place / "-".join([adapter, kind, *words, Path(base).name])
        if not kept.exists():
            answer = run("export", adapter, "--base", base, "--to", kind, *words, "-o", kept, "--cache", model_cache)
            assert answer.code == 0, answer.err
        out = Path("out")
        shutil.copytree(kept, out)
        return out

    return write


RIGHT = [
    ("onnx", "onnx-swappable", ()),
    ("merged", "merged", ()),
    ("onnx", "onnx-swappable", ("--quantise", "int4")),
    ("genai", "genai", ("--quantise", "int4")),
]


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("runtime", "kind", "words"), RIGHT)
def test_what_is_right_is_not_accused(check: Run, export: Run, runtime: str, kind: str, words: tuple[str, ...]) -> None:
    out = export("mine", kind, *words)
    answer = check("mine", runtime, "--file", out, "--json")
    assert answer.code == 0, answer.out
    finding = answer.json["finding"]
    assert (finding["verdict"], finding["reason"]) == ("applied", "")
    assert finding["scale"] == pytest.approx(1.0, abs=0.02 if kind == "onnx-swappable" and words else 1e-3)
    assert {(site["rank"], site["scale"], site["factor"]) for site in finding["sites"]} == {
        (4, 2.0, 1.0),
        (4, 0.5, 1.0),
        (2, 8.0, 1.0),
    }


@pytest.mark.slow
def test_the_folder_itself_is_what_peft_loads(check: Run) -> None:
    answer = check("rooted", "peft")
    assert answer.code == 0, answer.out
    assert answer.out.startswith("applied in peft\n")


def alpha_ignored(folder: Path) -> None:
    change_config(folder, lambda content: content.update(alpha_pattern={}))


def padded(folder: Path) -> None:
    """All ranks 4, filled up with zeros, and no new scale."""

    def pad(tensors: Tensors) -> None:
        for name in [name for name in tensors if "down_proj" in name]:
            A = "lora_A" in name
            tensors[name] = torch.nn.functional.pad(tensors[name], (0, 0, 0, 2) if A else (0, 2)).contiguous()

    change_weights(folder, pad)
    change_config(folder, lambda content: content.update(rank_pattern={}))


def permuted(folder: Path) -> None:
    def permute(tensors: Tensors) -> None:
        heads = {"q_proj": 4, "k_proj": 2}
        for name, B in tensors.items():
            if "lora_B" in name and (kind := name.split(".")[-3]) in heads:
                rows = B.reshape(heads[kind], 2, -1, B.shape[1]).transpose(1, 2)
                tensors[name] = rows.reshape(B.shape).contiguous()

    change_weights(folder, permute)


def site_missing(folder: Path) -> None:
    change_weights(folder, lambda tensors: [tensors.pop(half(Q, name)) for name in "AB"])
    targets = ["layers.1.self_attn.q_proj", "k_proj", "down_proj"]  # so that the folder does not contradict itself
    change_config(folder, lambda content: content.update(target_modules=targets))


def times(path: str, factor: float) -> Callable[[Path], None]:
    return lambda folder: change_weights(folder, lambda tensors: tensors[half(path, "B")].mul_(factor))


def rooted_ignored(folder: Path) -> None:
    change_config(folder, lambda content: content.update(use_rslora=False))


def four_times(folder: Path) -> None:
    change_weights(folder, lambda tensors: [B.mul_(4) for name, B in tensors.items() if "lora_B" in name])


def kind_missing(folder: Path) -> None:
    change_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "k_proj" in name])
    change_config(folder, lambda content: content.update(target_modules=["q_proj", "down_proj"]))


def two_sites(folder: Path) -> None:
    times(K, 2)(folder)
    times(Q, 0.5)(folder)


WRONG: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "alpha ignored": ("mine", alpha_ignored, "onnx-static", "sites: alpha_pattern is ignored"),
    "padded": ("mine", padded, "onnx-static", "applied at 0.50 x on 2 of 6 sites: rank_pattern is ignored"),
    "rslora ignored": ("rooted", rooted_ignored, "onnx-static", "on 6 of 6 sites: use_rslora is ignored"),
    "four times": ("mine", four_times, "onnx-static", "applied at 4.00 x on 6 of 6 sites: the scale is another one"),
    "rows": ("mine", permuted, "onnx-static", "rows of B of q_proj and k_proj are in the order of llama.cpp"),
    "kind missing": ("mine", kind_missing, "onnx-static", "not applied on 2 of 6 sites: no k_proj is adapted"),
    "doubled": ("mine", times(K, 2), "onnx-static", f"applied at 2.00 x on 1 of 6 sites ({K})"),
    "site missing": ("mine", site_missing, "onnx-swappable", f"1 of 6 sites ({Q}): {Q}: the file has no A and B"),
    "two sites": ("mine", two_sites, "onnx-static", "applied at 0.50 to 2.00 x on 2 of 6 sites"),
    "site missing, merged": ("mine", site_missing, "merged", f"not applied on 1 of 6 sites ({Q})"),
}


@pytest.mark.slow_after(8)
@pytest.mark.parametrize("name", WRONG)
def test_a_fault_is_named(shares_of: Callable[..., list[int]], check: Run, export: Run, name: str) -> None:
    adapter, spoil, kind, words = WRONG[name]
    shutil.copytree(adapter, name)
    spoil(Path(name))
    runtime = "merged" if kind == "merged" else "onnx"
    answer = check(adapter, runtime, "--file", export(name, kind))
    assert answer.code == 1, answer.out + answer.err
    assert words in answer.out
    single = ("doubled", "two sites", "site missing", "site missing, merged")
    assert ("searching for the reason: site 6 of 6" in answer.err) == (name in single)
    assert len(shares_of(answer, "checking")) > 4


@pytest.mark.slow
def test_weak_adapters_on_4_bit_weights_are_told_from_those_of_another_scale(check: Run, export: Run) -> None:
    """Rounded activations would change the logits more than the adapter."""
    shutil.copytree("mine", "weak")
    change_weights(Path("weak"), lambda tensors: [B.mul_(1e-2) for name, B in tensors.items() if "lora_B" in name])
    out = export("weak", "genai", "--quantise", "int4")
    for runtime in ("onnx", "genai"):
        assert check("weak", runtime, "--file", out).code == 0
    change_weights(Path("weak"), lambda tensors: tensors[half(K, "B")].mul_(2))
    answer = check("weak", "genai", "--file", out)
    assert answer.code == 1
    assert f"applied at 0.50 x on 1 of 6 sites ({K})" in answer.out


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1, 4])
def test_a_folder_of_unknown_rounding_is_judged_by_what_the_adapter_changes(
    check: Run, export: Run, factor: int
) -> None:
    shutil.copytree("mine", "other")
    if factor == 4:
        four_times(Path("other"))
    out = export("other" if factor == 4 else "mine", "genai", "--quantise", "int4")
    (out / "adaptare.json").unlink()
    answer = check("mine", "genai", "--file", out, "--json")
    assert answer.code == (0 if factor == 1 else 1), answer.out
    factors = [site["factor"] for site in answer.json["finding"]["sites"]]
    assert factors == pytest.approx([factor] * 6, rel=0.1)


def in_file(change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Changes the adapter file of an export."""
    import onnxruntime

    from adaptare.profiler.programs import write_onnx_adapter

    file = Path("out/adapter.onnx_adapter")
    parameters = onnxruntime.AdapterFormat.read_adapter(str(file)).get_parameters()
    arrays = {name: value.numpy().copy() for name, value in parameters.items()}
    del parameters
    change(arrays)
    write_onnx_adapter(arrays, Path("other.onnx_adapter"))


def test_nan_in_an_adapter_file_is_named(check: Run, export: Run) -> None:
    out = export("mine", "onnx-swappable")
    in_file(lambda arrays: arrays[f"{Q}.lora_B"].fill(np.nan))
    answer = check("mine", "onnx", "--file", out, "--adapter-file", "other.onnx_adapter", "--json")
    assert answer.code == 1
    assert answer.json["finding"]["verdict"] == "applied wrongly"
    assert answer.json["finding"]["reason"] == f"{Q}: the file has NaN or infinite values"
    assert [site["path"] for site in answer.json["finding"]["sites"] if site["note"]] == [Q]


def test_an_adapter_file_of_other_shapes_is_named(check: Run, export: Run) -> None:
    out = export("mine", "onnx-swappable")
    in_file(lambda arrays: arrays.update({f"{DOWN}.lora_A": arrays[f"{DOWN}.lora_A"][:-8].copy()}))
    answer = check("mine", "onnx", "--file", out, "--adapter-file", "other.onnx_adapter")
    assert answer.code == 1
    assert f"not loaded: {DOWN}: the file has a linear of" in answer.out
    assert "ONNX Runtime could not run the export" in answer.out


def test_a_file_that_is_no_adapter_is_not_loaded(check: Run, export: Run) -> None:
    Path("other.onnx_adapter").write_bytes(b"not an adapter")
    answer = check("mine", "onnx", "--file", export("mine", "onnx-swappable"), "--adapter-file", "other.onnx_adapter")
    assert answer.code == 1
    assert answer.out.startswith("not loaded: ")


def test_an_adapter_file_that_is_not_activated_is_named(check: Run, export: Run) -> None:
    out = export("mine", "onnx-swappable")
    (out / "adapter.onnx_adapter").unlink()
    answer = check("mine", "onnx", "--file", out)
    assert answer.code == 1
    assert "not applied: the logits are those of the base; no adapter file was given to the model" in answer.out
    assert "scale by regression 0.00" in answer.out


def test_another_base_is_named(check: Run, export: Run, model_cache: Path) -> None:
    from adaptare.search import load_base

    model, tokenizer = load_base(open_model("tiny-random", cache=model_cache).weights_folder())
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    model.save_pretrained("others")
    tokenizer.save_pretrained("others")
    answer = check("mine", "onnx", "--file", export("mine", "onnx-swappable", base="others"))
    assert answer.code == 1
    assert answer.out.startswith("another base: the logits differ by")


def test_a_base_of_other_quantisation_is_named(check: Run, export: Run) -> None:
    answer = check("mine", "onnx", "--file", export("mine", "onnx-swappable"), "--quantise", "int4")
    assert answer.code == 1
    assert "another base: it has weights that are not quantised, and int4 weights are expected" in answer.out


@pytest.mark.parametrize(
    ("factor", "code", "finding"),
    [
        (0.0, 1, "not applied: A, B or the scale of the adapter itself is zero on every site"),
        (1e-30, 4, "uncertain: the adapter changes no logit of its base"),
        (1e35, 4, "uncertain: the logits of PEFT itself are NaN or infinite"),
    ],
)
def test_without_a_visible_effect_nothing_is_applied(
    check: Run, export: Run, factor: float, code: int, finding: str
) -> None:
    out = export("mine", "onnx-static")
    change_weights(Path("mine"), lambda tensors: [B.mul_(factor) for name, B in tensors.items() if "lora_B" in name])
    answer = check("mine", "onnx", "--file", out)
    assert (answer.code, finding in answer.out) == (code, True), answer.out


@pytest.mark.parametrize("runtime", ["vllm", "olive"])
def test_a_rule_is_judged_by_the_config_alone(check: Run, runtime: str) -> None:
    Path("mine/adapter_model.safetensors").unlink()
    answer = check("mine", runtime, "--json")
    assert answer.code == 1
    finding = answer.json["finding"]
    assert finding["reason"] == "alpha_pattern and rank_pattern are ignored"
    factors = {site["path"].rpartition(".")[2]: site["factor"] for site in finding["sites"]}
    assert factors == {"q_proj": 1.0, "k_proj": 4.0, "down_proj": 0.25}
    change_config(Path("mine"), lambda content: content.update(alpha_pattern={}, rank_pattern={}))
    right = check("mine", runtime)
    assert right.code == 0
    assert right.out.startswith(f"applied in {runtime}, by its rule\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"use_dora": True}, "is a DoRA; merge it"),
        ({"init_lora_weights": "pissa"}, "was initialised with 'pissa', which changes the base"),
        ({"base_model_name_or_path": None}, "mine names no base model; give the one that it was trained on"),
    ],
)
def test_an_adapter_that_no_rule_applies_is_refused(check: Run, setting: dict[str, object], message: str) -> None:
    change_config(Path("mine"), lambda content: content.update(setting))
    Path("mine/adapter_model.safetensors").unlink()
    answer = check("mine", "vllm")
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mine", "onx"), "did you mean 'onnx'?"),
        (("mine", "onnx"), "name the files that onnx loads, a folder with model.onnx"),
        (("mine", "onnx", "--file", "gone"), "there is no 'gone'; name what the runtime loads"),
        (("mine", "onnx", "--file", "rooted"), "no folder for onnx, and lies in none: no rooted/model.onnx"),
        (("gone", "peft"), "gone is no PEFT folder: adapter_config.json cannot be read"),
        (("mine", "peft", "--adapter-file", "mine"), "peft takes no adapter file beside its folder; leave 'mine' out"),
    ],
)
def test_bad_input_is_refused(check: Run, words: tuple[str, ...], message: str) -> None:
    answer = check(*words)
    assert answer.code == 2
    assert message in answer.err


def test_a_runtime_of_another_package_is_one_object(
    check: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """from adaptare.search.checking import AdapterRuntime
HALF = AdapterRuntime("half", "applies half of every adapter", rule=lambda settings, path, rank: 1.0)
"""
    metadata = tmp_path / "packages" / "halves-1.0.dist-info"
    metadata.mkdir(parents=True)
    (tmp_path / "packages" / "half_runtime.py").write_text(module, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[adaptare.checks]\nhalf = half_runtime:HALF\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    answer = check("mine", "half")
    assert answer.code == 1
    assert "no alpha is read: the scale is 1" in answer.out
