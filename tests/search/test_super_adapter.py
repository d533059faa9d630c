from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, named_space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search.super_adapter.model import SuperAdapter

Q0, DOWN1 = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


def test_starts_as_the_base_with_all_ranks_active(tiny: SimpleNamespace, ids: torch.Tensor) -> None:
    model = tiny.model()
    base = logits(model, ids)
    super_adapter = SuperAdapter(model, tiny.space(model), seed=0)
    assert (super_adapter.active == tiny.ranks[-1]).all()
    assert torch.equal(logits(model, ids), base)


def test_parameters_are_those_of_the_largest_config(super_adapter: SuperAdapter) -> None:
    trainable = [weight for weight in super_adapter.model.parameters() if weight.requires_grad]
    largest = super_adapter.space.decode(super_adapter.largest)
    parameters = sum(each.numel() for each in trainable)
    assert parameters == largest.adapter_parameters(super_adapter.shape)


def test_activated_gives_back_what_was_active(trained: SuperAdapter) -> None:
    trained.activate(Configuration.of({Q0: 2}))
    with trained.activated(trained.largest):
        assert (trained.active == trained.largest).all()
    assert trained.space.decode(trained.active) == Configuration.of({Q0: 2})


def test_refused_config_leaves_the_active_one(trained: SuperAdapter) -> None:
    trained.activate(Configuration.of({Q0: 2}))
    with pytest.raises(InputError, match=r"layers.1.mlp.down_proj must be 0 to 4 in this super-adapter, not 8"):
        trained.activate(Configuration.of({Q0: 4, DOWN1: 8}))
    assert trained.space.decode(trained.active) == Configuration.of({Q0: 2})


def test_codes_of_another_space_are_refused(trained: SuperAdapter) -> None:
    with pytest.raises(InputError, match=r"shape \(14,\), not \(3,\)"):
        trained.activate(np.zeros(3, dtype=np.int64))


def test_remove_gives_the_model_back_as_it_was(tiny: SimpleNamespace, ids: torch.Tensor) -> None:
    model = tiny.model()
    model.lm_head.requires_grad_(True)
    before, modules = logits(model, ids), [type(module) for module in model.modules()]
    super_adapter = SuperAdapter(model, tiny.space(model), seed=0)
    tiny.disturb(super_adapter)
    assert not torch.equal(logits(model, ids), before)
    super_adapter.remove()
    assert torch.equal(logits(model, ids), before)
    assert [type(module) for module in model.modules()] == modules
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["model.embed_tokens.weight"]


def test_sites_without_a_rank_above_zero_are_left_alone(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    whole = tiny.space(model)
    space = rank_space("some", whole.shape, [[site.path] for site in whole.sites[:2]], ((0,), (0, 3)))
    super_adapter = SuperAdapter(model, space, seed=0)
    assert isinstance(model.get_submodule(whole.sites[0].path), torch.nn.Linear)
    assert sorted(super_adapter.state()) == [f"{whole.sites[1].path}.A", f"{whole.sites[1].path}.B"]


def test_narrower_layers_are_no_part_of_a_super_adapter(super_adapter: SuperAdapter) -> None:
    with pytest.raises(InputError, match="does not set the width of layer 0"):
        super_adapter.activate(Configuration.of(widths={0: 8}))


def test_a_model_that_carries_one_is_refused(super_adapter: SuperAdapter) -> None:
    with pytest.raises(InputError, match="call its `remove` first"):
        SuperAdapter(super_adapter.model, super_adapter.space, seed=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [({"hidden": 32}, r"16 x 32 in the model and 32 x 32"), ({"layers": 3}, "no module 'model.layers.2")],
)
def test_space_of_another_model_is_refused(tiny: SimpleNamespace, other: dict[str, int], message: str) -> None:
    model = tiny.model()
    shape = ModelShape.from_config(tiny.model(**other).config)
    with pytest.raises(InputError, match=message):
        SuperAdapter(model, named_space("sites", shape, ranks=tiny.ranks), seed=0)
    assert not any(weight.requires_grad for weight in model.parameters())
