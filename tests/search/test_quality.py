from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.token_examples import TokenExample

Examples = Callable[[int], list[TokenExample]]


def plain_loss(super_adapter: SuperAdapter, codes: NDArray[np.int64], examples: Sequence[TokenExample]) -> float:
    """One example at a time, all logits, no cache."""
    losses = []
    with super_adapter.activated(codes), torch.no_grad():
        for example in examples:
            logits = super_adapter.model(torch.tensor([example.ids]), use_cache=False).logits[0]
            chances = logits.log_softmax(-1)
            losses += [
                -float(chances[position - 1, example.ids[position]])
                for position in range(example.prompt_tokens, len(example.ids))
            ]
    return float(np.mean(losses))


def some_codes(super_adapter: SuperAdapter) -> NDArray[np.int64]:
    space = super_adapter.space
    return np.vstack(
        [space.at(space.sample(1, np.random.default_rng(0))), 0 * super_adapter.largest, super_adapter.largest]
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_a_plain_loop_over_the_examples(
    trained: SuperAdapter, token_examples: Examples, batch_size: int
) -> None:
    examples, codes = token_examples(7), some_codes(trained)
    found = CompletionLoss(trained, examples, batch_size=batch_size)(codes)
    assert found == pytest.approx([plain_loss(trained, row, examples) for row in codes], rel=1e-5)


def test_equals_a_plain_loop_where_prompts_share_nothing(trained: SuperAdapter) -> None:
    several = [TokenExample((1, 2, 3), 2), TokenExample((2, 3), 1), TokenExample((4, 5, 6, 7, 8), 3)]
    for examples in (several, several[2:]):
        found = CompletionLoss(trained, examples)(trained.largest[None])
        assert found == pytest.approx([plain_loss(trained, trained.largest, examples)], rel=1e-5)


def test_each_configuration_is_computed_once(trained: SuperAdapter, token_examples: Examples) -> None:
    loss, codes = CompletionLoss(trained, token_examples(3)), some_codes(trained)
    first = loss(np.vstack([codes, codes]))
    trained.model.forward = None  # type: ignore[assignment]
    assert (loss(codes[::-1]) == first[:3][::-1]).all()


def test_in_bfloat16_losses_are_nearly_the_same_and_weights_are_restored(
    trained: SuperAdapter, token_examples: Examples
) -> None:
    examples, codes, seen = token_examples(7), some_codes(trained), set()
    linears = [each.base for each in trained.linears.values()]
    weights = [each.weight for each in linears]
    exact = CompletionLoss(trained, examples)(codes)
    trained.bf16 = True
    with linears[0].register_forward_hook(lambda *passed: seen.add((linears[0].weight.dtype, passed[2].dtype))):
        rounded = CompletionLoss(trained, examples)(codes)
    assert seen == {(torch.bfloat16, torch.bfloat16)}
    assert (rounded != exact).all()
    assert rounded == pytest.approx(exact, rel=0.02)
    assert all(each.weight is weight for each, weight in zip(linears, weights, strict=True))


def test_what_was_active_stays_active(trained: SuperAdapter, token_examples: Examples) -> None:
    trained.model.train()
    CompletionLoss(trained, token_examples(3))(some_codes(trained))
    assert (trained.active == trained.largest).all()
    assert trained.model.training


def test_examples_are_needed(trained: SuperAdapter) -> None:
    with pytest.raises(InputError, match="at least one held-out example"):
        CompletionLoss(trained, [])


def test_sums_are_of_each_example_in_the_order_given(trained: SuperAdapter, token_examples: Examples) -> None:
    examples = token_examples(7)
    loss = CompletionLoss(trained, examples, batch_size=3)
    expected = [plain_loss(trained, trained.largest, [each]) * each.completion_tokens for each in examples]
    assert loss.sums(trained.largest) == pytest.approx(expected, rel=1e-5)
    assert loss.tokens.tolist() == [each.completion_tokens for each in examples]


def test_a_difference_is_that_of_the_losses_and_smaller_in_spread(
    trained: SuperAdapter, token_examples: Examples
) -> None:
    loss, (first, second, _) = CompletionLoss(trained, token_examples(20)), some_codes(trained)
    found, other = loss.difference(first, second), loss.difference(second, first)
    assert found.middle == pytest.approx(loss(first[None])[0] - loss(second[None])[0])
    assert (found.lower, found.upper) == pytest.approx((-other.upper, -other.lower))
    assert loss.difference(first, first).middle == 0


def test_samples_grow_and_have_the_sums_of_their_examples(trained: SuperAdapter, token_examples: Examples) -> None:
    examples = token_examples(21)
    whole, parts = (CompletionLoss(trained, examples, batch_size=2) for _ in range(2))
    samples = parts.samples()
    assert [len(each) for each in samples] == [4, 6, 11, 21]
    assert [each.tolist() for each in CompletionLoss(trained, examples[:5]).samples()] == [[0, 1, 2, 3, 4]]
    assert all(set(small) < set(large) for small, large in pairwise(samples))
    for sample in samples:
        assert parts.sums(trained.largest, sample) == pytest.approx(whole.sums(trained.largest)[sample], rel=1e-6)
