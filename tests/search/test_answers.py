"""Answers to multiple-choice questions, against one full forward pass for each choice without any cache."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase, Qwen3Config

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.answers import Answers
from adaptare.search.training.data import Example
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.remembered import Remembered
from adaptare.search.training.token_examples import (
    TokenExample,
    TokenQuestion,
    most_frequent_answer,
    tokenize_questions,
    tokenize_split,
)

SIZES = {"vocab_size": 260, "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 4}
FAMILIES = {
    "llama": lambda: LlamaConfig(**SIZES, num_attention_heads=9, num_key_value_heads=3, initializer_range=0.3),
    "qwen3": lambda: Qwen3Config(**SIZES, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3),
}


@pytest.fixture
def trained(request: pytest.FixtureRequest, tiny: SimpleNamespace) -> SuperAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(FAMILIES[getattr(request, "param", "qwen3")]())
    super_adapter: SuperAdapter = tiny.super_adapter(model.requires_grad_(False).eval())
    tiny.disturb(super_adapter)
    return super_adapter


def questions(n: int, *, shared: int = 4) -> list[TokenQuestion]:
    """Random questions with two to four choices of different lengths, after as many tokens that all share."""
    rng = np.random.default_rng(5)

    def ids(most: int) -> tuple[int, ...]:
        return tuple(map(int, rng.integers(0, 260, size=rng.integers(1, most + 1))))

    made = []
    for _ in range(n):
        choices = tuple(ids(5) for _ in range(rng.integers(2, 5)))
        characters = tuple(map(int, rng.integers(1, 30, size=len(choices))))
        prompt = (*range(5, 5 + shared), *ids(6))
        made.append(TokenQuestion(prompt, choices, characters, int(rng.integers(len(choices)))))
    return made


def plain(super_adapter: SuperAdapter, codes: NDArray[np.int64], asked: Sequence[TokenQuestion]) -> list[list[float]]:
    """Log-likelihood of each choice, token by token."""
    found = []
    with super_adapter.activated(codes), torch.no_grad():
        for question in asked:
            found.append([])
            for choice in question.choices:
                ids = [*question.prompt, *choice]
                chances = super_adapter.model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
                places = range(len(question.prompt), len(ids))
                found[-1].append(sum(float(chances[place - 1, ids[place]]) for place in places))
    return found


def configurations(super_adapter: SuperAdapter) -> NDArray[np.int64]:
    space = super_adapter.space
    drawn = space.at(space.sample(2, np.random.default_rng(0)))
    return np.vstack([drawn, super_adapter.largest, 0 * super_adapter.largest])


@pytest.mark.parametrize(("trained", "shared"), [("llama", 0), ("qwen3", 4)], indirect=["trained"])
def test_likelihoods_equal_full_forward_passes(trained: SuperAdapter, shared: int) -> None:
    asked = questions(6, shared=shared)
    answers = Answers(trained, asked)
    alone = Answers(trained, asked[:1]).log_likelihoods(trained.largest)[0]
    assert alone == pytest.approx(plain(trained, trained.largest, asked[:1])[0], rel=1e-5)
    for codes in configurations(trained):
        for found, expected in zip(answers.log_likelihoods(codes), plain(trained, codes, asked), strict=True):
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("scoring", ["sum", "per-character"])
def test_the_answer_is_the_choice_with_the_highest_score(trained: SuperAdapter, scoring: Any) -> None:
    asked = questions(16)
    right = Answers(trained, asked, scoring=scoring).right(trained.largest)
    expected = []
    for question, found in zip(asked, plain(trained, trained.largest, asked), strict=True):
        lengths = question.characters if scoring == "per-character" else [1] * len(found)
        scores = [each / length for each, length in zip(found, lengths, strict=True)]
        expected.append(scores.index(max(scores)) == question.answer)
    assert right.tolist() == expected
    assert 0 < right.sum() < 16


def test_the_prefix_of_a_question_is_computed_once_for_all_choices(trained: SuperAdapter) -> None:
    asked, computed = questions(3), []
    handle = trained.model.register_forward_pre_hook(
        lambda _, __, inputs: computed.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    Answers(trained, asked).right(trained.largest)
    handle.remove()
    own = sum(len(each.prompt) - 4 - 1 + len(each.choices) * max(map(len, each.choices)) for each in asked)
    assert sum(computed) == 4 + own


def test_each_configuration_is_computed_once_and_the_active_one_restored(trained: SuperAdapter) -> None:
    answers = Answers(trained, questions(2))
    trained.model.train()
    first = answers.right(0 * trained.largest)
    assert (trained.active == trained.largest).all()
    assert trained.model.training
    trained.model.forward = None  # type: ignore[assignment]
    assert (answers.right(0 * trained.largest) == first).all()


def test_answers_of_an_earlier_call_are_not_computed_again(trained: SuperAdapter, tmp_path: Path) -> None:
    asked = questions(6)
    first = Answers(trained, asked, remembered=Remembered(tmp_path / "values")).right(trained.largest)
    trained.model.forward = None  # type: ignore[assignment]
    later = Remembered(tmp_path / "values")
    assert (Answers(trained, asked, remembered=later).right(trained.largest) == first).all()
    with pytest.raises(TypeError):
        Answers(trained, questions(7), remembered=later).right(trained.largest)


def test_majority_and_untrained_come_before_the_configurations(trained: SuperAdapter) -> None:
    asked = questions(12)
    answers = Answers(trained, asked)
    found = answers.accuracies({"all": answers.right(trained.largest)}, majority=1)
    assert [each.name for each in found] == ["majority", "untrained", "all"]
    untrained, full = (
        [np.argmax(each) for each in plain(trained, codes, asked)] for codes in configurations(trained)[:1:-1]
    )
    truth = [each.answer for each in asked]
    assert [each.right for each in found] == [
        truth.count(1),
        sum(map(int.__eq__, map(int, untrained), truth)),
        sum(map(int.__eq__, map(int, full), truth)),
    ]
    assert (found[1].gained, found[1].lost) == (0, 0)
    assert found[2].right - found[1].right == found[2].gained - found[2].lost


def test_without_questions_there_is_no_accuracy(trained: SuperAdapter) -> None:
    none = Answers(trained, [])
    assert none.accuracies({"all": none.right(trained.largest)}, majority=0) == ()


def test_other_scores_are_refused(trained: SuperAdapter) -> None:
    with pytest.raises(InputError, match="scoring must be one of sum, per-character, not 'mean'"):
        Answers(trained, questions(1), scoring="mean")  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_noticed(trained: SuperAdapter) -> None:
    trained.model.get_parameter("model.norm.weight").data[0] = float("inf")
    with pytest.raises(InputError, match=r"the loss of \d of \d completions is not finite"):
        Answers(trained, questions(1)).right(trained.largest)
    with pytest.raises(InputError, match="the loss of 1 of 1 completions is not finite"):
        CompletionLoss(trained, [TokenExample((1, 2, 3), 1)])(trained.largest[None])


def test_adapter_weights_that_are_not_finite_are_named(trained: SuperAdapter) -> None:
    """Attention kernels on a processor may turn queries that are no numbers into finite outputs."""
    name, tensor = next(iter(trained.state().items()))
    tensor[0, 0] = float("nan")
    for evaluate in (Answers(trained, questions(1)).right, CompletionLoss(trained, [TokenExample((1, 2), 1)]).sums):
        with pytest.raises(InputError, match=f"{name} has weights that are not finite; train"):
            evaluate(trained.largest)


def test_choices_are_tokenised_as_completions_are(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = [Example("Hot?", "fire", ("ice", "fire")), Example("2 + 2?", "4")]
    (found,) = tokenize_questions(examples, tokenizer)
    assert tokenizer.decode(found.prompt) == "Hot?\n"
    assert [tokenizer.decode(choice) for choice in found.choices] == ["ice<end>", "fire<end>"]
    assert (found.characters, found.answer) == ((3, 4), 1)


def test_the_majority_is_that_of_the_training_questions() -> None:
    asked = [Example("a", each, ("x", "y", "z")) for each in "yzzy"]
    assert most_frequent_answer([*asked, Example("b", "c")]) == 1  # the first of equals
    assert most_frequent_answer(asked[1:3]) == 2
    assert most_frequent_answer([Example("b", "c")]) == 0


def test_a_split_has_the_questions_of_its_held_out_parts(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = [Example(f"Is {number} even?", ("yes", "no")[number % 2], ("yes", "no")) for number in range(20)]
    split = tokenize_split([*examples, Example("2 + 2?", "4")], tokenizer, seed=0)
    asked = [tokenizer.decode(each.prompt) for each in (*split.validation_questions, *split.test_questions)]
    assert len(set(asked)) == 6
    assert not set(asked) & {tokenizer.decode(each.ids[: each.prompt_tokens]) for each in split.train}
