"""A kind of export of another package, from its entry point to the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from installing import installed

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, named_space, open_model
from adaptare.search import SuperAdapter, export_adapter, load_base

Q = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def super_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuperAdapter:
    """On a tiny model, where the kind is installed."""
    monkeypatch.syspath_prepend(installed(tmp_path / "packages", "adaptare.exports", "arrays = toy_export:ARRAYS"))
    model, _ = load_base(open_model("tiny-random", cache=tmp_path / "cache").weights_folder())
    made = SuperAdapter(model, named_space("sites", ModelShape.from_config(model.config), ranks=(0, 2, 4)), seed=0)
    for tensor in made.state().values():
        tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)))
    return made


def test_it_writes_what_the_super_adapter_adds_to_the_weights(super_adapter: SuperAdapter, tmp_path: Path) -> None:
    adapted = super_adapter.sub_adapter(Configuration.of({Q: 2}))
    assert export_adapter(adapted, tmp_path / "out", kind="arrays") is None
    state = super_adapter.state()
    found = np.load(tmp_path / "out" / "updates.npz")
    expected = 32 / 4 * (state[f"{Q}.B"][:, :2] @ state[f"{Q}.A"][:2])
    assert found.files == [Q]
    assert np.allclose(found[Q], expected.numpy(), atol=1e-5)
    assert json.loads((tmp_path / "out" / "adaptare.json").read_text())["kind"] == "arrays"
    with pytest.raises(InputError, match="choose another configuration"):
        export_adapter(super_adapter.sub_adapter(Configuration()), tmp_path / "refused", kind="arrays")
    assert not (tmp_path / "refused").exists()
