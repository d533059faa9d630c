"""A dimension of another package: measured in torch, stored, predicted, trained and exported, with no other change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from installing import installed
from toy_dimension import HEADS, space
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from adaptare.core import InputError
from adaptare.devices import DeviceInfo, SimulatedDevice, TorchCpu
from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
from adaptare.profiler import (
    Configuration,
    FixedRounds,
    ModelShape,
    Store,
    Workload,
    design,
    profile,
    programs_for,
    read_space,
)
from adaptare.search import SuperAdapter, TrainingSettings, export_adapter, train_super_adapter
from adaptare.search.export.kinds import export_kind
from adaptare.search.training.token_examples import TokenExample
from adaptare.testing import SpaceSuite

SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16}

CONFIG = LlamaConfig(**SIZES, intermediate_size=48, vocab_size=64, pad_token_id=0)
SHAPE = ModelShape.from_config(CONFIG)
SPACE = space(SHAPE, ranks=(0, 2, 4))
FEWER = Configuration.of({"model.layers.1.self_attn.q_proj": 2}, others={HEADS(0): 2, HEADS(1): 2})
IDS = torch.tensor([[3, 5, 8, 13]])


class TestSpaceOfGroups(SpaceSuite):
    @pytest.fixture
    def space(self) -> object:
        return SPACE


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dimension as that of an installed package."""
    package = installed(tmp_path / "packages", "adaptare.dimensions", "kv_groups = toy_dimension:HEADS")
    monkeypatch.syspath_prepend(package)


@pytest.mark.usefixtures("toys")
def test_it_is_read_from_json_and_from_a_space_file(tmp_path: Path) -> None:
    assert FEWER.to_json()["kv_groups"] == {"0": 2, "1": 2}
    assert Configuration.from_json(FEWER.to_json()) == FEWER
    (tmp_path / "space.yaml").write_text("groups: [{kv_groups: [1, 2, 4], tie: all}]")
    assert read_space(tmp_path / "space.yaml", SHAPE).axes[0].dimensions == HEADS.all(SHAPE)
    with pytest.raises(InputError, match="number of KV groups of layer 0 must be 1 to 4 in this base model, not 5"):
        Configuration.of(others={HEADS(0): 5}).on(SHAPE)


def test_half_the_groups_are_half_the_cache_and_less_work() -> None:
    base, fewer = Workload(SHAPE).base, Workload(SHAPE, FEWER.without_adapter, mode="merged")
    assert fewer.cache_bytes == base.cache_bytes / 2
    assert fewer.work().flops < base.work().flops


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_it_is_measured_in_torch_and_stored(tmp_path: Path) -> None:
    workloads = [Workload(SHAPE, FEWER), Workload(SHAPE, FEWER.without_adapter, mode="merged")]
    rows = profile(
        workloads, reference=Workload(SHAPE).base, device=TorchCpu(threads=1), stop=FixedRounds(2), seed=0, openings=1
    )
    assert all(row.complete for row in rows)
    Store(tmp_path / "adaptare.db").append(rows)
    assert {row.workload for row in Store(tmp_path / "adaptare.db").measurements()} == set(workloads)


@pytest.mark.usefixtures("toys", "without_card")
def test_it_is_predicted(tmp_path: Path) -> None:
    device = SimulatedDevice(launch_s=5e-7)
    workloads = [Workload(SHAPE, each) for each in design(SPACE, 24, seed=0)]
    measured = profile(workloads, reference=Workload(SHAPE).base, device=device, stop=FixedRounds(3), seed=0)
    predictor = LatencyPredictor().fit(measured[:18])
    save_predictor(predictor, tmp_path)
    unseen = [row.workload for row in measured[18:]]
    found = load_predictor(tmp_path).predict_configs([each.configuration for each in unseen]).mean
    truth = np.array([device.latency_s(each.work()) for each in unseen])
    assert np.abs(found / truth - 1).mean() < 0.02


def test_it_is_trained_and_exported_as_a_stock_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    super_adapter = SuperAdapter(LlamaForCausalLM(CONFIG).requires_grad_(False).eval(), SPACE, seed=0)
    rows = [TokenExample((3, 5, first, 8), 2) for first in range(9, 25)]
    train_super_adapter(super_adapter, rows, TrainingSettings(4, 0, learning_rate=1e-2), folder=tmp_path / "training")
    with super_adapter.activated(FEWER), torch.inference_mode():
        expected = super_adapter.model(IDS).logits
    # Transformers reads the files here, not once more in a process of its own.
    unread = replace(export_kind("merged"), expectations=None)
    export_adapter(super_adapter.sub_adapter(FEWER), tmp_path / "out", kind=unread)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (loaded.config.num_attention_heads, loaded.config.num_key_value_heads) == (4, 2)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_it_is_refused_for_graphs_that_cannot_be_cut_like_this() -> None:
    device = DeviceInfo("mine", "a processor", "onnxruntime 1.32", threads=1)
    with pytest.raises(InputError, match="ONNX graphs cannot be cut to another number of KV groups; measure it on a"):
        programs_for(device).check(Workload(SHAPE, FEWER))
