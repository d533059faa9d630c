import re

import pytest

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.search import read_budget
from adaptare.search.budget.limits import Budget

BUDGETS = [
    ("decode=20ms", "decode", None, 0.02),
    ("prefill=80ms", "prefill", None, 0.08),
    ("decode=0.02s", "decode", None, 0.02),
    ("decode=900us", "decode", None, 0.0009),
    ("decode=.5s", "decode", None, 0.5),
    (" decode = 20 ms ", "decode", None, 0.02),
    ("decode@0=20ms", "decode", 0, 0.02),
    ("prefill@128=80ms", "prefill", 128, 0.08),
    ("overhead=5%", "overhead", None, 0.05),
    ("overhead=0%", "overhead", None, 0.0),
    ("decode=-15%", "decode", None, -0.15),
    ("prefill@128=-12.5 %", "prefill", 128, -0.125),
    ("decode=+5%", "decode", None, 0.05),
    ("overhead=-15%", "overhead", None, -0.15),
    ("memory=200MB", "memory", None, 200e6),
    ("memory=1.5GiB", "memory", None, 1.5 * 2**30),
    ("memory=64kB", "memory", None, 64e3),
    ("memory=-5%", "memory", None, -0.05),
    ("energy=5mJ", "energy", None, 0.005),
    ("energy=+5%", "energy", None, 0.05),
    ("power=1.5W", "power", None, 1.5),
    ("swap=30ms", "swap", None, 0.03),
    ("p90(decode)=25ms", "decode", None, 0.025),
    ("p90(prefill@128)=+5%", "prefill", 128, 0.05),
]


@pytest.mark.parametrize(("text", "name", "length", "limit"), BUDGETS)
def test_reads_what_a_user_writes(text: str, name: str, length: int | None, limit: float) -> None:
    budget = read_budget(text)
    assert (budget.name, budget.length, budget.limit) == (name, length, limit)


def test_keeps_the_spelling() -> None:
    assert str(read_budget(" prefill@128 = 80ms ")) == "prefill@128 = 80ms"


def test_a_budget_may_name_its_predictor() -> None:
    budget = read_budget(" runs/phone : p90(decode)=25ms", named=True)
    assert (budget.predictor, budget.name, budget.p90, budget.limit) == ("runs/phone", "decode", True, 0.025)
    assert from_json(Budget, to_json(budget)) == budget
    assert read_budget("my=phone:prefill@8=+5%", named=True).predictor == "my=phone"
    assert read_budget("decode=20ms", named=True).predictor == ""


@pytest.mark.parametrize(
    ("text", "named", "message"),
    [
        ("phone:decode=20ms", False, "which only a search of given predictors takes; leave the name out"),
        (":decode=20ms", True, "must have the name of a predictor before the colon"),
        ("p90(phone:decode)=25ms", True, "name of a predictor before p90: NAME:p90(decode)=25ms"),
        ("phone:joy=25ms", True, "must limit one of"),
    ],
)
def test_a_wrong_name_is_refused(text: str, named: bool, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_budget(text, named=named)


REFUSED = [
    ("", "must read QUANTITY=VALUE"),
    ("decode", "must read QUANTITY=VALUE"),
    ("decode 20ms", "must read QUANTITY=VALUE"),
    ("p50(decode)=20ms", "takes the percentile p90 only, such as p90(decode)=25ms"),
    ("p90(overhead)=5%", "takes a percentile of prefill or decode only"),
    ("p90=20ms", "must limit one of"),
    ("median(decode)=20ms", "must limit one of"),
    (
        "latency=20ms",
        "one of prefill, decode, overhead, energy, power, memory, peak_memory, operators, plain, swap, ",
    ),
    ("Decode=20ms", "not 'Decode'"),
    ("=20ms", "not ''"),
    ("decode=20", "units s, ms, us, %, not '20'"),
    ("decode=20MS", "not '20MS'"),
    ("decode=5%", "needs a sign to be relative to the base"),
    ("decode=-100%", "must leave a part of the base's"),
    ("overhead=-200%", "must leave a part of the base's"),
    ("memory=5%", "needs a sign to be relative to the base"),
    ("energy=5ms", "units J, mJ, uJ, %, not '5ms'"),
    ("decode=ms", "not 'ms'"),
    ("decode=-20ms", "not '-20ms'"),
    ("decode=nan ms", "not 'nan ms'"),
    ("decode=20ms=30ms", "not '20ms=30ms'"),
    ("decode=0ms", "above zero"),
    ("overhead=20ms", "units %, not '20ms'"),
    ("memory=200ms", "units B, kB, MB, GB, KiB, MiB, GiB, %, not '200ms'"),
    ("memory@4=200MB", "length after @ for prefill and decode only"),
    ("decode@=20ms", "tokens after @, not ''"),
    ("decode@many=20ms", "tokens after @, not 'many'"),
    ("prefill@0=20ms", "tokens after @, not '0'"),
]


@pytest.mark.parametrize(("text", "rule"), REFUSED)
def test_says_which_rule_a_budget_breaks(text: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        read_budget(text)
    assert rule in str(caught.value)


@pytest.mark.parametrize("text", [text for text, _ in REFUSED])
def test_an_error_repeats_what_came_and_gives_examples(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_budget(text)
    assert str(caught.value).startswith(f"budget {text!r} ")
    assert "for example decode=20ms" in str(caught.value)


def test_the_examples_in_errors_are_themselves_budgets() -> None:
    with pytest.raises(InputError) as caught:
        read_budget("")
    examples = str(caught.value).partition("for example ")[2].split(", ")
    assert [str(read_budget(example)) for example in examples] == examples


def test_an_absolute_budget_is_its_own_limit_whatever_the_base_takes() -> None:
    assert read_budget("decode=20ms").bound(0.5) == 0.02
    assert read_budget("memory=200MB").bound(1e6) == 200e6


def test_an_overhead_budget_is_added_to_the_base() -> None:
    assert read_budget("overhead=5%").bound(0.02) == pytest.approx(0.021, rel=1e-12)


@pytest.mark.parametrize(("text", "limit_s"), [("decode=-15%", 0.017), ("decode=+5%", 0.021), ("overhead=-15%", 0.017)])
def test_a_share_with_a_sign_is_relative_to_the_base(text: str, limit_s: float) -> None:
    assert read_budget(text).relative
    assert read_budget(text).bound(0.02) == pytest.approx(limit_s, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "quantity", "unit"),
    [("decode=20ms", "latency", "s"), ("overhead=5%", "latency", "s"), ("energy=5mJ", "energy", "J")],
)
def test_a_budget_names_the_quantity_that_is_measured(text: str, quantity: str, unit: str) -> None:
    assert (read_budget(text).quantity, read_budget(text).unit) == (quantity, unit)


@pytest.mark.parametrize("text", [text for text, *_ in BUDGETS])
def test_a_budget_comes_back_from_json(text: str) -> None:
    assert from_json(Budget, to_json(read_budget(text))) == read_budget(text)


def test_equal_spellings_are_equal_budgets() -> None:
    assert read_budget("decode=20ms") == Budget("decode", None, 0.02, "decode=20ms")
