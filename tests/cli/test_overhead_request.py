"""`adaptare overhead -n`: a whole request out of the measured prefill and decode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = ("overhead", "tiny-random", "--device", "simulated", "--openings", 2, "--seconds", 0.3)


@pytest.fixture
def overhead(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        return run(*WORDS, "--cache", model_cache, *options)

    return call


def row_of(found: dict[str, Any], mode: str, phase: str, length: int) -> dict[str, Any]:
    (row,) = (row for row in found["rows"] if (row["mode"], row["phase"], row["length"]) == (mode, phase, length))
    return dict(row)


def latency(found: dict[str, Any], mode: str, phase: str, length: int) -> float:
    return float(row_of(found, mode, phase, length)["latency"]["middle"])


def test_a_request_is_its_prefill_and_every_token_against_the_cache_before_it(overhead: Callable[..., Any]) -> None:
    mode = "swappable"
    found = overhead("-p", 4, "-d", 4, "-n", 3, "--json").json
    token = {past: overhead("-p", 0, "-d", past, "--json").json for past in (4, 5, 6)}
    tokens_s = [latency(answer, mode, "decode", past) for past, answer in token.items()]
    (request,) = (request for request in found["requests"] if request["mode"] == mode)
    assert (request["phase"], request["origin"]) == ("request", "composed")
    assert (request["prompt"], request["generated"]) == (4, 3)
    first_s = latency(found, mode, "prefill", 4)
    assert request["first_token_s"] == first_s
    total_s = request["total"]["middle"]
    assert total_s == pytest.approx(first_s + sum(tokens_s), rel=1e-3)
    assert request["token_s"] == pytest.approx((total_s - first_s) / 3)
    assert request["tokens_per_s"] == pytest.approx(3 / total_s)


def test_the_overhead_of_a_request_is_over_the_same_request_without_adapter(overhead: Callable[..., Any]) -> None:
    found = overhead("-p", 4, "-d", 0, "-n", 9, "--batch", 2, "--json").json
    for request in found["requests"]:
        mode = request["mode"]
        ends = [row_of(found, mode, "decode", past)["base_s"] for past in (4, 12)]
        base_s = row_of(found, mode, "prefill", 4)["base_s"] + 9 * sum(ends) / 2
        total, share = request["total"], request["over_base"]
        assert request["base_s"] == pytest.approx(base_s)
        assert share["middle"] == pytest.approx(total["middle"] / base_s - 1)
        assert share["lower"] <= share["middle"] <= share["upper"]
        assert total["lower"] <= total["middle"] <= total["upper"]
        assert request["tokens_per_s"] == pytest.approx(2 * 9 / total["middle"])
        assert request["verdict"] == "ambiguous"  # two openings


def test_several_lengths_are_measured_and_each_prompt_is_a_request(overhead: Callable[..., Any]) -> None:
    found = overhead("-p", "4,8", "-d", "0,16", "-n", 3, "--json").json
    assert {(row["phase"], row["length"]) for row in found["rows"]} == {
        *(("prefill", length) for length in (4, 8)),
        *(("decode", length) for length in (0, 16, 4, 6, 8, 10)),
    }
    assert [each["prompt"] for each in found["requests"]] == [4, 4, 8, 8]
    shorter, longer = (next(each for each in found["requests"] if each["prompt"] == prompt) for prompt in (4, 8))
    assert shorter["first_token_s"] < longer["first_token_s"]


def test_the_table_says_that_a_request_is_composed(overhead: Callable[..., Any]) -> None:
    shown = overhead("-p", 4, "-d", 4, "-n", 2).out
    assert "Requests of 4 tokens: the first token and 2 more, composed of the rows above" in shown
    assert "tokens/s" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-p", 0, "-n", 4), "generated tokens follow a prompt; give its number of tokens (option -p/--prefill)"),
        (("-p", "8,-4"), "-p must be 0 or more, not -4"),
        (("-d", "-2"), "-d must be -1 or more, not -2"),
        (("-p", "4,many"), "-p must be whole numbers with commas between them, such as 16 or 4,8,64, not '4,many'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    overhead: Callable[..., Any], options: tuple[object, ...], message: str
) -> None:
    answer = overhead(*options)
    assert answer.code == 2
    assert message in answer.err
