"""Random adapters: the same ones wherever they are made."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.onnx.base import adapter_inputs
from adaptare.profiler.programs.onnx.programs import _fed
from adaptare.profiler.programs.torch.programs import build
from adaptare.profiler.workloads.sub_adapter import random_adapter

PATH = "model.layers.1.mlp.down_proj"


def arrays(path: str = PATH, rank: int = 4) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    A, B = random_adapter(path, rank, 48, 32)
    return A.array(), B.array()


@pytest.mark.parametrize("change", [{"path": "model.layers.0.mlp.down_proj"}, {"rank": 5}], ids=["site", "rank"])
def test_another_site_or_rank_has_other_weights(change: dict[str, str | int]) -> None:
    down, up = random_adapter(PATH, 8, 8, 8)
    assert down.seed != up.seed
    for ours, other in zip(arrays(), arrays(**change), strict=True):
        shared = tuple(slice(min(sizes)) for sizes in zip(ours.shape, other.shape, strict=True))
        assert not np.isclose(ours[shared], other[shared]).any(axis=None, where=ours[shared] != 0)


def test_an_adapter_moves_what_it_is_added_to() -> None:
    """For inputs of unit variance: outputs of variance rank x 0.02 squared."""
    A, B = arrays(rank=16)
    x = np.random.default_rng(0).standard_normal((2000, 48))
    assert (x @ A @ B).std() == pytest.approx(0.02 * 16**0.5, rel=0.15)


def test_a_torch_worker_and_the_feed_of_a_graph_have_the_same_weights(llama: ModelShape) -> None:
    program = TorchPrograms().program(Workload(llama, Configuration.of({PATH: 4})))
    layer = build(**json.loads(program.arguments))._model.get_base_model().get_submodule(PATH)
    specs = _fed(Workload(llama), {PATH: 4})
    fed = [filled(name, specs[name]) for name in adapter_inputs(PATH)]
    in_torch = [layer.lora_A["default"].weight.numpy().T, layer.lora_B["default"].weight.numpy().T]
    for ours, torchs, made in zip(fed, in_torch, arrays(), strict=True):
        assert np.array_equal(ours, made)
        assert np.array_equal(torchs, made)


def test_a_padded_feed_has_the_same_weights_before_zeros(llama: ModelShape) -> None:
    specs = _fed(Workload(llama), {PATH: 3}, width=8)
    down, up = (filled(name, specs[name]) for name in adapter_inputs(PATH))
    A, B = arrays(rank=3)
    assert (down.shape, up.shape) == ((48, 8), (8, 32))
    assert np.array_equal(down[:, :3], A)
    assert np.array_equal(up[:3], B)
    assert not down[:, 3:].any()
    assert not up[3:].any()


@pytest.mark.parametrize(("width", "shapes"), [(0, [(48, 0), (0, 32)]), (4, [(48, 4), (4, 32)])])
def test_rank_0_is_fed_as_nothing_or_as_zeros(llama: ModelShape, width: int, shapes: list[tuple[int, int]]) -> None:
    specs = _fed(Workload(llama), {PATH: 0}, width=width)
    fed = [filled(name, specs[name]) for name in adapter_inputs(PATH)]
    assert [each.shape for each in fed] == shapes
    assert not any(each.any() for each in fed)
