from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.search.training.data import Example, Message, Split, split_examples
from adaptare.search.training.example_files import read_examples


def written(folder: Path, *lines: str) -> Path:
    file = folder / "data.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def texts(part: tuple[Example, ...]) -> set[str]:
    return {example.prompt for example in part}


def many(n: int) -> list[Example]:
    return [Example(f"question {number}", f"answer {number}") for number in range(n)]


def test_empty_lines_are_skipped_and_broken_ones_named_by_their_number(tmp_path: Path) -> None:
    line = '{"prompt": "a", "completion": "b"}'
    assert read_examples(written(tmp_path, line, "", line)) == [Example("a", "b")] * 2
    with pytest.raises(InputError, match="line 3: not JSON"):
        read_examples(written(tmp_path, line, "", "{"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "is empty"), (b'{"prompt": "\xe9", "completion": "b"}', "is not UTF-8"), (None, "No such file")],
)
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path / "data.jsonl")


def test_parts_share_no_text_however_often_it_is_repeated() -> None:
    split = split_examples(many(20) * 5, seed=1)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [14, 3, 3]
    assert len(set().union(*map(texts, parts))) == 20


def test_answers_to_one_prompt_stay_together() -> None:
    examples = [Example(f"question {number % 10}", f"answer {number}") for number in range(40)]
    split = split_examples(examples, seed=0)
    assert not texts(split.train) & texts(split.validation)
    assert not (texts(split.train) | texts(split.validation)) & texts(split.test)
    assert len(split.train) == 24


def test_split_depends_on_the_seed_and_not_on_the_order() -> None:
    def split(seed: int, examples: list[Example]) -> Split:
        return split_examples(examples, seed=seed)

    assert split(0, many(20)) == split(0, many(20)[::-1])
    assert split(0, many(20)) != split(1, many(20))


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="1 different prompts cannot be split"):
        split_examples([Example("a", "b")] * 9, seed=0)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.5, 0.5)])
def test_shares_must_leave_something_to_train_on(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="shares of validation and test"):
        split_examples(many(9), seed=0, validation=shares[0], test=shares[1])


def test_parts_of_their_own_are_taken_whole_and_the_others_drawn() -> None:
    given = [Example(f"given {number}", "yes") for number in range(4)]
    split = split_examples(many(20), seed=0, test=given)
    assert (len(split.train), len(split.validation), set(split.test)) == (17, 3, set(given))
    both = split_examples(many(20), seed=0, validation=given[:1], test=given[1:])
    assert (len(both.train), both.validation, set(both.test)) == (20, (given[0],), set(given[1:]))
    assert both.test == split_examples(many(20), seed=0, validation=given[:1], test=given[:0:-1]).test


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("validation", "test")])
def test_parts_that_share_a_prompt_are_refused(part: str, other: str) -> None:
    parts = {"train": tuple(many(3)), "validation": (Example("v", "v"),), "test": (Example("t", "t"),)}
    parts[other] += (Example(parts[part][0].prompt, "another answer"),)
    with pytest.raises(InputError, match=f"1 of the 2 prompts for {other} are prompts for {part} too, such as"):
        Split(**parts)


def test_turns_of_a_conversation_stay_together() -> None:
    examples = [
        Example(f"second {number}", "b", history=(Message("user", f"first {number}"), Message("assistant", "a")))
        for number in range(20)
    ] + [Example(f"first {number}", "a") for number in range(20)]
    split = split_examples(examples, seed=0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [28, 6, 6]
    openings = [{example.first_prompt for example in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, openings)) == len(set().union(*openings)) == 20
