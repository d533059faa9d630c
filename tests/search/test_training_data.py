import json
from pathlib import Path

import pytest

from adaptare.devices import InputError
from adaptare.search.training.data import Example, Split, read_examples, split_examples


def written(folder: Path, *lines: str) -> Path:
    file = folder / "data.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def texts(part: tuple[Example, ...]) -> set[str]:
    return {example.prompt for example in part}


def many(n: int) -> list[Example]:
    return [Example(f"question {number}", f"answer {number}") for number in range(n)]


def test_both_layouts_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        json.dumps({"prompt": " 2 + 2? ", "completion": "4"}),
        "",
        json.dumps({"instruction": "Translate.", "input": "Hund", "output": "dog", "source": "me"}),
        json.dumps({"instruction": "Name a colour.", "input": "", "output": "grün"}),
    )
    assert read_examples(file) == [
        Example("2 + 2?", "4"),
        Example("Translate.\nHund", "dog"),
        Example("Name a colour.", "grün"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: must be an object, not list"),
        ("{}", "line 2: no field 'prompt'.*has nothing"),
        ('{"prompt": "a"}', "line 2: no field 'completion'.*this one has prompt"),
        ('{"instruction": "a"}', "line 2: no field 'output'"),
        ('{"prompt": "a", "completion": 3}', "line 2: 'completion' must be a text that is not empty, not 3"),
        ('{"prompt": "a", "completion": "  "}', "line 2: 'completion' must be a text that is not empty"),
        ('{"instruction": "a", "input": [1], "output": "b"}', "line 2: 'input' must be a text"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_examples(written(tmp_path, '{"prompt": "a", "completion": "b"}', line))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="is empty"):
        read_examples(written(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_examples(tmp_path / "none.jsonl")


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b'{"prompt": "\xe9", "completion": "b"}')
    with pytest.raises(InputError, match="is not UTF-8"):
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


def test_small_sets_still_fill_all_parts() -> None:
    split = split_examples(many(3), seed=0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [1, 1, 1]


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="1 different prompts cannot be split"):
        split_examples([Example("a", "b")] * 9, seed=0)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, 1.0), (0.5, 0.5)])
def test_shares_must_leave_something_to_train_on(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="shares of validation and test"):
        split_examples(many(9), seed=0, validation=shares[0], test=shares[1])
