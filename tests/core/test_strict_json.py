import pytest

from adaptare.core.strict_json import parse_json


def test_json_is_read_as_python_reads_it() -> None:
    assert parse_json('{"a": [1, 2.5, null, {"a": true}]}') == {"a": [1, 2.5, None, {"a": True}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"r": 4, "r": 8}', "the key 'r' is written twice in one object"),
        ('[{"a": {"b": 1, "c": 2, "b": 1}}]', "the key 'b' is written twice in one object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a":' * 100_000, "it is nested too deeply"),
        ("{", "Expecting property name"),
    ],
    ids=["twice", "twice inside", "deep lists", "deep objects", "cut off"],
)
def test_what_has_two_meanings_or_no_end_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)
