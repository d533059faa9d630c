import pytest
import torch
from torch import nn

from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.quantised import MaskedElasticLinear, QuantisedElasticLinear

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


@LAYERS
@pytest.mark.parametrize("rank", [1, 5])
def test_an_update_is_added_to_the_non_zero_weights_only(kind: type[ElasticLinear], rank: int, x: torch.Tensor) -> None:
    """On the grid of the base, whose scales do not follow the update, if it is quantised."""
    made = layer(kind)
    made.rank = rank
    expected, start = by_hand(made, rank), made.base.weight
    if kind is QuantisedElasticLinear:
        expected, start = on_grid(expected, made.base.weight), on_grid(start, start)
        assert "scales" not in made.state_dict()
    assert (made(x) - (x @ expected.T + made.base.bias)).abs().max() < 1e-5
    assert (merged(made, rank) - expected).abs().max() < 1e-6
    assert torch.equal(merged(made, rank)[:, ::2], torch.zeros(7, 20))
    assert (expected - start).abs().max() > 1e-2


@LAYERS
def test_rank_zero_is_the_base(kind: type[ElasticLinear], x: torch.Tensor) -> None:
    made = layer(kind)
    made.rank = 0
    assert torch.equal(made(x), made.base(x))


def test_codes_are_the_merged_weight() -> None:
    made = layer(QuantisedElasticLinear)
    assert isinstance(made, QuantisedElasticLinear)
    codes = made.codes(made.master, update(made, 3))
    assert (codes.dtype, codes.shape, int(codes.max()) <= 15) == (torch.uint8, (7, 40), True)
    scales = made.get_buffer("scales").repeat_interleave(32, dim=1)[:, :40]
    assert torch.equal((codes.float() - 8) * scales, merged(made, 3))


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
