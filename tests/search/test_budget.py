import re

import pytest

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.search import read_budget
from adaptare.search.budget.limits import Budget

BUDGETS = [
    ("decode=20ms", "decode", None, 0.02),
    ("decode=0.02s", "decode", None, 0.02),
    ("decode=900us", "decode", None, 0.0009),
    (" decode = 20 ms ", "decode", None, 0.02),
    ("decode@0=20ms", "decode", 0, 0.02),
    ("prefill@128=80ms", "prefill", 128, 0.08),
    ("overhead=5%", "overhead", None, 0.05),
    ("prefill@128=-12.5 %", "prefill", 128, -0.125),
    ("decode=+5%", "decode", None, 0.05),
    ("memory=200MB", "memory", None, 200e6),
    ("memory=1.5GiB", "memory", None, 1.5 * 2**30),
    ("energy=5mJ", "energy", None, 0.005),
    ("power=1.5W", "power", None, 1.5),
    ("swap=30ms", "swap", None, 0.03),
    ("p90(decode)=25ms", "decode", None, 0.025),
    ("p90(prefill@128)=+5%", "prefill", 128, 0.05),
]


@pytest.mark.parametrize(("text", "name", "length", "limit"), BUDGETS)
def test_reads_what_a_user_writes(text: str, name: str, length: int | None, limit: float) -> None:
    budget = read_budget(text)
    assert (budget.name, budget.length, budget.limit) == (name, length, limit)
    assert str(budget) == text.strip()
    assert from_json(Budget, to_json(budget)) == budget


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
    ("decode 20ms", "must read QUANTITY=VALUE"),
    ("p50(decode)=20ms", "takes the percentile p90 only, such as p90(decode)=25ms"),
    ("p90(overhead)=5%", "takes a percentile of prefill or decode only"),
    ("p90=20ms", "must limit one of"),
    (
        "latency=20ms",
        "one of prefill, decode, overhead, energy, power, memory, peak_memory, operators, plain, swap, ",
    ),
    ("Decode=20ms", "not 'Decode'"),
    ("decode=20", "units s, ms, us, %, not '20'"),
    ("decode=20MS", "not '20MS'"),
    ("decode=5%", "needs a sign to be relative to the base"),
    ("decode=-100%", "must leave a part of the base's"),
    ("energy=5ms", "units J, mJ, uJ, %, not '5ms'"),
    ("decode=-20ms", "not '-20ms'"),
    ("decode=nan ms", "not 'nan ms'"),
    ("decode=20ms=30ms", "not '20ms=30ms'"),
    ("decode=0ms", "above zero"),
    ("memory@4=200MB", "length after @ for prefill and decode only"),
    ("decode@=20ms", "tokens after @, not ''"),
    ("prefill@0=20ms", "tokens after @, not '0'"),
]


@pytest.mark.parametrize(("text", "rule"), REFUSED)
def test_says_which_rule_a_budget_breaks(text: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        read_budget(text)
    assert str(caught.value).startswith(f"budget {text!r} ")
    assert rule in str(caught.value)
    assert "for example decode=20ms" in str(caught.value)


def test_the_examples_in_errors_are_themselves_budgets() -> None:
    with pytest.raises(InputError) as caught:
        read_budget("")
    examples = str(caught.value).partition("for example ")[2].split(", ")
    assert [str(read_budget(example)) for example in examples] == examples


@pytest.mark.parametrize(
    ("text", "limit_s"),
    [("decode=20ms", 0.02), ("overhead=5%", 0.525), ("decode=-15%", 0.425), ("overhead=-15%", 0.425)],
)
def test_a_share_is_of_the_base_and_anything_else_absolute(text: str, limit_s: float) -> None:
    assert read_budget(text).bound(0.5) == pytest.approx(limit_s, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "quantity", "unit"),
    [("decode=20ms", "latency", "s"), ("overhead=5%", "latency", "s"), ("energy=5mJ", "energy", "J")],
)
def test_a_budget_names_the_quantity_that_is_measured(text: str, quantity: str, unit: str) -> None:
    assert (read_budget(text).quantity, read_budget(text).unit) == (quantity, unit)
