import pytest
import torch
from torch import nn

from adaptare.profiler.programs.onnx.quantise import rounded_weights
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.quantised import MaskedElasticLinear, QuantisedElasticLinear

RANKS = pytest.mark.parametrize("rank", [1, 3, 5])
LAYERS = pytest.mark.parametrize("kind", [MaskedElasticLinear, QuantisedElasticLinear])
FACTOR = 10 / 5  # alpha over the largest rank, at every rank


def layer(kind: type[ElasticLinear]) -> ElasticLinear:
    """On a base with half of its weights zero, and a bias; as if it had been trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = nn.Linear(40, 7).requires_grad_(False)
    base.weight[:, ::2] = 0
    made = kind(base, 5, alpha=10.0, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.B.copy_(0.05 * torch.randn(made.B.shape, generator=torch.Generator().manual_seed(1)))
    return made


def by_hand(made: ElasticLinear, rank: int) -> torch.Tensor:
    """Masked update, weight by weight."""
    W, A, B = made.base.weight, made.A.detach(), made.B.detach()
    weight = W.clone()
    for row in range(W.shape[0]):
        for column in range(W.shape[1]):
            if W[row, column] != 0:
                weight[row, column] += FACTOR * float(B[row, :rank] @ A[:rank, column])
    return weight


def update(made: ElasticLinear, rank: int) -> torch.Tensor:
    own = made.halves(rank)
    return own.scale * (torch.from_numpy(own.B) @ torch.from_numpy(own.A))


def merged(made: ElasticLinear, rank: int) -> torch.Tensor:
    return made.merge(made.master, update(made, rank))


def on_grid(weight: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """The nearest of the sixteen values of each block of the base, by trying all of them."""
    values = torch.empty_like(weight)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], 32):
            block = base[row, start : start + 32]
            step = -block[block.abs().argmax()] / 8
            choices = step * torch.arange(-8, 8)
            nearest = (weight[row, start : start + 32, None] - choices).abs().argmin(dim=1)
            values[row, start : start + 32] = choices[nearest]
    return values


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(2))


@RANKS
def test_a_masked_update_is_added_to_the_non_zero_weights_only(x: torch.Tensor, rank: int) -> None:
    made = layer(MaskedElasticLinear)
    made.rank = rank
    expected = by_hand(made, rank)
    assert (made(x) - (x @ expected.T + made.base.bias)).abs().max() < 1e-5
    assert (merged(made, rank) - expected).abs().max() < 1e-6
    assert (expected - made.base.weight).abs().max() > 1e-2


@RANKS
def test_a_quantised_update_is_on_the_grid_of_the_base(x: torch.Tensor, rank: int) -> None:
    made = layer(QuantisedElasticLinear)
    made.rank = rank
    expected = on_grid(by_hand(made, rank), made.base.weight)
    assert (made(x) - (x @ expected.T + made.base.bias)).abs().max() < 1e-5
    assert (merged(made, rank) - expected).abs().max() < 1e-6
    assert (expected - on_grid(made.base.weight, made.base.weight)).abs().max() > 1e-2


@LAYERS
@RANKS
def test_merging_keeps_every_zero(kind: type[ElasticLinear], rank: int) -> None:
    made = layer(kind)
    assert (merged(made, rank)[made.base.weight == 0] == 0).all()


def test_a_masked_merge_keeps_every_weight_that_is_not_zero() -> None:
    made = layer(MaskedElasticLinear)
    assert torch.equal(merged(made, 5) == 0, made.base.weight == 0)


@LAYERS
def test_rank_zero_is_the_base(kind: type[ElasticLinear], x: torch.Tensor) -> None:
    made = layer(kind)
    made.rank = 0
    assert torch.equal(made(x), made.base(x))


def test_a_quantised_layer_starts_as_the_base_rounded_by_onnx_runtime() -> None:
    made = layer(QuantisedElasticLinear)
    with torch.no_grad():
        made.B.zero_()
    rounded = rounded_weights({"w": made.base.weight.T.numpy()}, "int4")["w"].T
    assert torch.equal(merged(made, 5), torch.from_numpy(rounded.copy()))


def test_codes_are_the_merged_weight() -> None:
    made = layer(QuantisedElasticLinear)
    assert isinstance(made, QuantisedElasticLinear)
    codes = made.codes(made.master, update(made, 3))
    assert (codes.dtype, codes.shape, int(codes.max()) <= 15) == (torch.uint8, (7, 40), True)
    scales = made.get_buffer("scales").repeat_interleave(32, dim=1)[:, :40]
    assert torch.equal((codes.float() - 8) * scales, merged(made, 3))


def test_scales_do_not_follow_the_update() -> None:
    made = layer(QuantisedElasticLinear)
    before = made.get_buffer("scales").clone()
    with torch.no_grad():
        made.B.mul_(100)
    merged(made, 5)
    assert torch.equal(made.get_buffer("scales"), before)
    assert "scales" not in made.state_dict()


@LAYERS
def test_gradients_of_the_active_slice_are_finite_and_not_zero(kind: type[ElasticLinear], x: torch.Tensor) -> None:
    made = layer(kind)
    made.rank = 2
    made(x).square().sum().backward()
    assert made.A.grad is not None
    assert made.B.grad is not None
    for rows in (made.A.grad, made.B.grad.T):
        assert torch.isfinite(rows).all()
        assert (rows[:2] != 0).any()
        assert (rows[2:] == 0).all()


def test_an_update_below_half_a_step_of_the_grid_counts_if_the_master_is_kept() -> None:
    from_master, from_rounded = layer(QuantisedElasticLinear), layer(QuantisedElasticLinear)
    for made in (from_master, from_rounded):
        rounded = torch.from_numpy(rounded_weights({"w": made.base.weight.T.numpy()}, "int4")["w"].T.copy())
        if made is from_master:
            made.base.register_buffer("master", made.base.weight.detach(), persistent=False)
        made.base.weight = nn.Parameter(rounded, requires_grad=False)
        with torch.no_grad():
            made.B.mul_(0.02)
    assert not torch.equal(merged(from_master, 5), from_master.base.weight)
    assert torch.equal(merged(from_rounded, 5), from_rounded.base.weight)
