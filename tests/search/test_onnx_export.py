import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from adaptare.core import DeviceError, InputError, MissingPackageError
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import Configuration, Quantisation
from adaptare.profiler.programs.onnx.base import write_onnx_adapter
from adaptare.profiler.programs.onnx.quantise import dequantised_weights, rounded_weights
from adaptare.search import Origin
from adaptare.search.export import onnx as onnx_exports
from adaptare.search.export.check import check, computed_elsewhere
from adaptare.search.export.kinds import ExportOptions, export_kind
from adaptare.search.super_adapter.model import SuperAdapter

Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
# Unequal ranks, and most sites without.
CONFIG = Configuration.of({Q.format(1): 2, DOWN.format(0): 4, DOWN.format(1): 1})
CONFIGS = {"config.json", "genai_config.json", "generation_config.json"}
OURS = CONFIGS | {"README.md", "adaptare.json", "model.onnx", "model.onnx.data"}
ALONE = {"README.md", "adaptare.json", "adapter.onnx_adapter"}
IDS = np.random.default_rng(5).integers(0, 260, size=(2, 9))


def read_onnx_adapter(file: Path) -> dict[str, NDArray[np.float32]]:
    import onnxruntime

    content = onnxruntime.AdapterFormat.read_adapter(str(file))
    return {name: np.array(value.numpy()) for name, value in content.get_parameters().items()}


@pytest.fixture(scope="module")
def trained(tiny: SimpleNamespace) -> SuperAdapter:
    """No test changes it."""
    super_adapter: SuperAdapter = tiny.super_adapter(tiny.model())
    tiny.disturb(super_adapter)
    return super_adapter


@pytest.fixture(scope="module")
def options(tiny_base: Path) -> dict[str, Any]:
    return {"base": tiny_base, "cache": tiny_base.parent / "cache"}


@pytest.fixture(scope="module")
def swappable(trained: SuperAdapter, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export whose model takes adapters on its own sites."""
    folder = tmp_path_factory.mktemp("swappable") / "export"
    exported(trained, CONFIG, folder, kind="onnx-swappable", **options)
    return folder


@pytest.fixture
def written_alone(trained: SuperAdapter, tmp_path: Path) -> Callable[..., Path]:
    """Writes the adapter file of a configuration."""

    def write(ranks: dict[str, int]) -> Path:
        exported(trained, Configuration.of(ranks), tmp_path / "other", base_name="some/base", kind="onnx-adapter")
        assert {file.name for file in (tmp_path / "other").iterdir()} == ALONE
        return tmp_path / "other" / "adapter.onnx_adapter"

    return write


def logits(folder: Path, *, adapter: Path | None = None) -> NDArray[np.float32]:
    """Of the last token of IDS, as a user of ONNX Runtime gets them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    run_options, loaded = onnxruntime.RunOptions(), onnxruntime.LoraAdapter()
    if adapter:
        loaded.Load(str(adapter))
        run_options.add_active_adapter(loaded)
    ports = [port for port in session.get_inputs() if port.name.startswith("past_key_values.")]
    feed = {port.name: np.zeros((2, port.shape[1], 0, port.shape[3]), np.float32) for port in ports}
    feed |= {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    found: NDArray[np.float32] = session.run(["logits"], feed, run_options)[0]
    return found[:, -1]


def expected(super_adapter: SuperAdapter, config: Configuration) -> NDArray[np.float32]:
    with super_adapter.activated(config), torch.no_grad():
        found: NDArray[np.float32] = super_adapter.model(torch.tensor(IDS)).logits[:, -1].numpy()
    return found


@pytest.mark.parametrize(
    ("kind", "quantisation"),
    [
        ("onnx", "none"),
        ("onnx-static", "none"),
        ("onnx-swappable", "none"),
        ("onnx", "int4-weight-only"),
        ("onnx-static", "int8"),
        ("genai", "int4"),
    ],
)
def test_what_is_exported_computes_what_torch_does(
    kind: str,
    quantisation: Quantisation,
    trained: SuperAdapter,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    folder = tmp_path / "export"
    difference = exported(trained, CONFIG, folder, kind=kind, quantisation=quantisation, tokenizer=tokenizer, **options)
    # Small layers of even weights lose little by rounding.
    assert 0 < difference < (0.2 if QUANTISATIONS[quantisation].rounds_activations else 1e-4)
    written = {file.name for file in folder.iterdir()}
    adapters = {"adapter.onnx_adapter"} if kind in ("onnx-swappable", "genai") else set()
    assert {name for name in written if not name.startswith("tokenizer")} == OURS | adapters
    assert written > OURS | adapters
    origin = json.loads((folder / "adaptare.json").read_text())
    assert (origin["kind"], origin["quantisation"], origin["ranks"]) == (kind, quantisation, dict(CONFIG.ranks))
    assert all(file.stat().st_nlink == 1 for file in folder.iterdir())
    if quantisation == "none":  # as a user of ONNX Runtime loads it
        adapter = folder / "adapter.onnx_adapter" if adapters else None
        assert np.abs(logits(folder, adapter=adapter) - expected(trained, CONFIG)).max() < 1e-4


_GENERATE = """
import json, sys
import onnxruntime_genai as og

request = json.load(sys.stdin)
model = og.Model(request["folder"])
adapters = og.Adapters(model)
for file in request["adapters"]:
    adapters.load(file, file)
found = []
for file in [*request["adapters"], request["adapters"][0], None]:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(request["tokens"]) + 32, do_sample=False)
    generator = og.Generator(model, params)
    if file:
        generator.set_active_adapter(adapters, file)
    generator.append_tokens(request["tokens"])
    for _ in range(32):
        generator.generate_next_token()
    found.append([int(token) for token in generator.get_sequence(0)])
print(json.dumps(found))
"""


def test_genai_generates_what_torch_does_and_switches_between_adapters(
    trained: SuperAdapter, tmp_path: Path, options: dict[str, Any]
) -> None:
    other = Configuration.of({DOWN.format(0): 2, Q.format(1): 1})
    exported(trained, CONFIG, tmp_path / "model", kind="genai", every_site=True, **options)
    exported(trained, other, tmp_path / "other", kind="onnx-adapter", **options)
    adapters = [str(tmp_path / name / "adapter.onnx_adapter") for name in ("model", "other")]
    request = {"folder": str(tmp_path / "model"), "adapters": adapters, "tokens": IDS[0].tolist()}
    found = computed_elsewhere(_GENERATE, request, library="onnxruntime-genai")
    settings = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False, "use_cache": False}
    ids = torch.tensor(IDS[:1])
    for config, tokens in zip((CONFIG, other, CONFIG, Configuration()), found, strict=True):
        with trained.activated(config), torch.inference_mode():
            expected_tokens = trained.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0]
        assert tokens == expected_tokens.tolist()


def test_a_swappable_model_without_adapter_is_the_base(trained: SuperAdapter, swappable: Path) -> None:
    assert np.abs(logits(swappable) - expected(trained, Configuration())).max() < 1e-4
    assert np.abs(logits(swappable) - expected(trained, CONFIG)).max() > 1e-1


@pytest.mark.parametrize(
    "other",
    [{Q.format(1): 4, DOWN.format(0): 1, DOWN.format(1): 3}, {DOWN.format(0): 2}],
    ids=["other ranks", "fewer sites"],
)
def test_an_adapter_written_alone_is_swapped_in(
    other: dict[str, int], trained: SuperAdapter, swappable: Path, written_alone: Callable[..., Path]
) -> None:
    found = logits(swappable, adapter=written_alone(other))
    assert np.abs(found - expected(trained, Configuration.of(other))).max() < 1e-4


def test_an_adapter_of_other_sites_is_refused_by_its_inputs(
    swappable: Path, written_alone: Callable[..., Path]
) -> None:
    with pytest.raises(Exception, match=r"Invalid input name: model\.layers\.0\.self_attn\.q_proj\.lora_"):
        logits(swappable, adapter=written_alone({Q.format(0): 2}))


def test_merging_comes_before_quantising(trained: SuperAdapter, tmp_path: Path, options: dict[str, Any]) -> None:
    exported(trained, CONFIG, tmp_path / "export", kind="onnx", quantisation="int4", **options)
    found = dequantised_weights(tmp_path / "export" / "model.onnx")
    with trained.lifted():
        weights = {path: trained.model.get_submodule(path).weight.detach() for path, _ in CONFIG.ranks}
    halves = trained.halves(CONFIG).items()
    merged = {path: (weights[path].numpy() + own.scale * own.B @ own.A).T for path, own in halves}
    rounded = rounded_weights(merged, "int4")
    for path in rounded:
        weight = found[f"{path.replace('q_proj', 'qkv_proj')}.weight"]  # q comes first in the packed product
        assert np.allclose(weight[:, : rounded[path].shape[1]], rounded[path], atol=1e-5)


def test_weights_come_from_the_folder_and_not_from_memory(
    tiny: SimpleNamespace, tmp_path: Path, options: dict[str, Any]
) -> None:
    super_adapter = tiny.super_adapter(tiny.model())
    tiny.disturb(super_adapter)
    wanted = expected(super_adapter, CONFIG)
    for weight in super_adapter.model.parameters():
        if not weight.requires_grad:
            weight.data = (weight * 8).round() / 8
    assert np.abs(expected(super_adapter, CONFIG) - wanted).max() > 1e-2
    exported(super_adapter, CONFIG, tmp_path / "export", kind="onnx-static", **options)
    assert np.abs(logits(tmp_path / "export") - wanted).max() < 1e-4


def test_a_folder_of_something_else_is_refused_before_anything_is_done(
    trained: SuperAdapter, tmp_path: Path, tiny_base: Path
) -> None:
    for kind in ("onnx", "onnx-adapter"):
        with pytest.raises(InputError, match="is no earlier export"):
            exported(trained, CONFIG, tiny_base, kind=kind, base=tiny_base, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert not (tiny_base / "model.onnx").exists()


def test_an_export_that_computes_something_else_is_not_left_behind(
    trained: SuperAdapter,
    tmp_path: Path,
    options: dict[str, Any],
    written_alone: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = written_alone(dict(CONFIG.ranks)).parent
    monkeypatch.setattr(onnx_exports, "TOLERANCE", 0.0)
    refusal = r"the onnx export, as ONNX Runtime reads it, differ .* and 0 is allow.*another version of onnxruntime"
    for folder in (tmp_path / "new", earlier):
        with pytest.raises(DeviceError, match=refusal):
            exported(trained, CONFIG, folder, kind="onnx", **options)
    assert list(tmp_path.iterdir()) == [earlier]
    assert {file.name for file in earlier.iterdir()} == ALONE


def check_swappable(trained: SuperAdapter, folder: Path, base: Path) -> float:
    kind, adapted = export_kind("onnx-swappable"), trained.sub_adapter(CONFIG, Origin(base))
    assert kind.expectations is not None
    return check(folder, kind.expectations(adapted, ExportOptions()), advice="")


def test_the_check_sees_another_adapter(
    trained: SuperAdapter, tmp_path: Path, tiny_base: Path, swappable: Path
) -> None:
    folder = shutil.copytree(swappable, tmp_path / "export")
    assert check_swappable(trained, folder, tiny_base) < 1e-4
    tensors = read_onnx_adapter(folder / "adapter.onnx_adapter")
    tensors[f"{DOWN.format(1)}.lora_B"] *= 1.1
    write_onnx_adapter(tensors, folder / "adapter.onnx_adapter")
    with pytest.raises(DeviceError, match=r"and 0\.001 is allowed"):
        check_swappable(trained, folder, tiny_base)
    (folder / "model.onnx").write_text("no graph")
    with pytest.raises(DeviceError, match=r"ONNX Runtime could not run the export: .*Load model from .*model\.onnx"):
        check_swappable(trained, folder, tiny_base)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "onnx-fluid"}, "unknown kind of export 'onnx-fluid'; .* register .*onnx-swappable"),
        ({"kind": "onnx", "quantisation": "int2"}, "quantisation must be one of .*int4-weight-only, not 'int2'"),
        ({"kind": "onnx-swappable", "config": Configuration()}, "without any site cannot be swapped"),
        ({"kind": "onnx-static", "every_site": True}, "an export of kind onnx-static has no every_site; leave it out"),
        ({"kind": "onnx", "config": Configuration.of({Q.format(0): 8})}, "must be 0 to 4 in this super-adapter"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    words: dict[str, Any], message: str, trained: SuperAdapter, tmp_path: Path, tiny_base: Path
) -> None:
    config = words.pop("config", CONFIG)
    with pytest.raises(InputError, match=message):
        exported(trained, config, tmp_path / "export", base=tiny_base, cache=tmp_path / "cache", **words)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(
    trained: SuperAdapter, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime_genai" else find(name))
    with pytest.raises(MissingPackageError, match=r"onnxruntime_genai is not installed; .*'adaptare\[onnx\]'"):
        exported(trained, CONFIG, tmp_path / "export", kind="onnx", **options)
    assert not list(tmp_path.iterdir())
