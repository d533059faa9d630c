import pytest
import torch
from torch import nn

from adaptare.search.super_adapter.elastic import ElasticLinear

SIZES = (12, 7)


def elastic(*, seed: int = 0) -> ElasticLinear:
    generator = torch.Generator().manual_seed(seed)
    base = nn.Linear(*SIZES).requires_grad_(False)
    return ElasticLinear(base, 5, alpha=10.0, generator=generator)


def trained() -> ElasticLinear:
    layer = elastic()
    with torch.no_grad():
        layer.B.copy_(torch.randn(layer.B.shape, generator=torch.Generator().manual_seed(1)))
    return layer


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 4, SIZES[0], generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_slice_computes_what_a_plain_adapter_of_that_rank_does(x: torch.Tensor, rank: int) -> None:
    layer = trained()
    layer.rank = rank
    own = layer.halves(rank)
    A, B = torch.from_numpy(own.A), torch.from_numpy(own.B)
    plain = layer.base(x) + 2.0 * (x @ A.T @ B.T)
    assert own.scale == 2.0
    assert (layer(x) - plain).abs().max() < 1e-5


def test_rank_zero_is_the_base_after_training(x: torch.Tensor) -> None:
    layer = trained()
    layer.rank = 0
    assert torch.equal(layer(x), layer.base(x))


def test_a_starts_within_the_bounds_of_a_plain_linear() -> None:
    assert elastic().A.abs().max() <= 12**-0.5
    assert float(elastic().A.detach().std()) == pytest.approx(12**-0.5 / 3**0.5, rel=0.15)


def test_first_update_moves_only_the_active_slice(x: torch.Tensor) -> None:
    layer = trained()
    before_A, before_B = layer.A.detach().clone(), layer.B.detach().clone()
    layer.rank = 2
    optimiser = torch.optim.AdamW([layer.A, layer.B], lr=0.1, weight_decay=0.0)
    layer(x).square().sum().backward()
    optimiser.step()
    assert torch.equal(layer.A[2:], before_A[2:])
    assert torch.equal(layer.B[:, 2:], before_B[:, 2:])
    assert not torch.equal(layer.A[:2], before_A[:2])
    assert not torch.equal(layer.B[:, :2], before_B[:, :2])


def test_warm_momentum_does_not_move_a_site_that_has_no_part_in_the_step(x: torch.Tensor) -> None:
    layer = trained()
    optimiser = torch.optim.AdamW([layer.A, layer.B], lr=0.1, weight_decay=0.0)
    layer(x).square().sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    before = layer.A.detach().clone()
    layer.rank = 0
    optimiser.step()
    assert torch.equal(layer.A, before)
