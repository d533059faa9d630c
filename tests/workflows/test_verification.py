"""Verdicts on a budget: met, missed, or ambiguous and measured longer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.console import Console
from adaptare.core.table import Note
from adaptare.devices import DeviceInfo, SimulatedDevice
from adaptare.exit_codes import ExitCode
from adaptare.profiler import Configuration, Measurement, ModelShape, Store, Workload, precise_within, programs_for
from adaptare.profiler.analysis import Interval, look_errors
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.store.measurement import Visit, pooled
from adaptare.profiler.store.samples import Samples
from adaptare.search import read_budget
from adaptare.views import verify as view
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.search.result import Choice, Measured, Place, SearchResult
from adaptare.workflows.verification import judged, verify_choices

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
CONFIG = Configuration.uniform(SHAPE, 4)
TEMPLATE = Workload(SHAPE)
ADAPTED = Workload(SHAPE, CONFIG)
CHOICE = Choice("winner 1", CONFIG, "swappable", Interval(1.0e-3, 1.1e-3, 1.2e-3), 1.0, 1.0)
PLACE = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
BASE_S = 1e-3
ROUNDS = 12


def searched(
    budget: str = "decode=1.2ms", limit: float = 1.2e-3, winners: Sequence[Choice] = (CHOICE,)
) -> SearchResult:
    return SearchResult(read_budget(budget), limit, BASE_S, 0.9, "predicted", PLACE, tuple(winners), (), {})


def verified(*found: Measurement | None) -> SearchResult:
    """The result of a search whose winners were measured; `None`: one could not be."""
    rows = [judged(row, searched()) if row else Measured(failure="out of memory") for row in found]
    return searched(winners=[replace(CHOICE, measured=row) for row in rows])


@pytest.mark.parametrize(
    ("file", "configuration", "expected"),
    [
        ("front.json", CONFIG, "next: adaptare export front.json --winner 1 --output FOLDER"),
        ("front.json", Configuration.of({}, widths={0: 24}), "--winner 1 --to onnx --output FOLDER"),
        ("shrink.json", CONFIG, ""),
    ],
    ids=["an adapter", "a smaller model", "shrunk"],
)
def test_the_next_command_can_be_given(file: str, configuration: Configuration, expected: str) -> None:
    winner = replace(CHOICE, configuration=configuration, measured=Measured(verdict="met"))
    (*_, last) = view.sections(replace(searched(winners=[winner]), file=Path(file)))
    assert str(last).endswith(expected) if expected else "export" not in str(last)


def measured(by_opening: Sequence[float], *, slow: float = 1.0, **fields: Any) -> Measurement:
    """Milliseconds of the adapter in each opening, beside a base that takes one, times `slow`."""

    def visits(milliseconds: Sequence[float]) -> tuple[Visit, ...]:
        return tuple(
            Visit(opening, opening * ROUNDS + number, 1.0, (1e-3 * slow * each,))
            for opening, each in enumerate(milliseconds)
            for number in range(ROUNDS)
        )

    found = Measurement(
        workload=ADAPTED,
        device=DeviceInfo("simulated", "closed form", "simulated", 1),
        reference=ADAPTED.base,
        reference_s=slow * BASE_S,
        session="one",
        visits=visits(by_opening),
        reference_visits=visits([1.0] * len(by_opening)),
        stopped_by="rounds",
    )
    return replace(found, **fields)


# Met at 95 %, ambiguous at 97.5 %.
CLOSE = measured([1.15, 1.21, 1.17, 1.15, 1.19, 1.14])


def verdict(measurement: Measurement, result: SearchResult | None = None) -> str | None:
    return judged(measurement, result or searched()).verdict


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (measured([1.08, 1.10, 1.09, 1.11]), "met"),
        (measured([1.38, 1.40, 1.39, 1.41]), "missed"),
        (measured([0.8, 1.3, 1.05, 1.15]), "ambiguous"),  # as 1.09 ms [0.68, 1.74], which was said to be a no
    ],
)
def test_the_whole_interval_lies_within_the_budget_or_above_it(found: Measurement, expected: str) -> None:
    assert verdict(found) == expected


def test_fewer_than_four_openings_meet_and_miss_no_budget() -> None:
    assert {verdict(measured([each] * n)) for each in (1.0, 2.0) for n in (1, 2, 3)} == {"ambiguous"}
    assert [verdict(measured([each] * 4)) for each in (1.0, 2.0)] == ["met", "missed"]


def test_a_latency_is_judged_by_the_seconds_of_its_own_session() -> None:
    """A device 1.2 times as slow as when it was calibrated misses a budget that the ratio alone would meet."""
    slow = measured([1.08, 1.10, 1.09, 1.11], slow=1.2)
    assert verdict(slow) == "missed"
    assert verdict(replace(slow, reference_s=BASE_S)) == "missed"


def test_seconds_are_those_of_the_whole_session() -> None:
    """Where the machine is slow half of the time, neither its faster nor its slower speed is stated."""
    half = measured([1.0, 1.1] * 8, reference_s=0.9 * BASE_S)
    half = replace(half, reference_visits=half.visits)
    found = judged(half, searched())
    assert found.value is not None
    assert found.value.middle == pytest.approx(1.05e-3, rel=0.002)
    assert found.value.contains(1.05e-3)
    assert found.verdict == "met"


def test_an_overhead_is_judged_by_the_ratio_whatever_the_seconds() -> None:
    slow = measured([1.08, 1.10, 1.09, 1.11], slow=1.2)
    assert verdict(slow, searched("overhead=15%", 1.15e-3)) == "met"
    assert verdict(slow, searched("overhead=5%", 1.05e-3)) == "missed"


def test_a_smaller_error_needs_a_wider_interval() -> None:
    shares = [judged(CLOSE, searched(), error=error) for error in (0.025, 0.001)]
    assert [each.verdict for each in shares] == ["met", "ambiguous"]
    assert [each.confidence for each in shares] == pytest.approx([0.95, 0.998])
    assert shares[0].value == shares[1].value


def with_energy(*joules: float, failure: str = "") -> Measurement:
    """A measurement with the energy of each round, beside a base that takes 4 mJ."""
    rounds = tuple((each,) for each in joules)
    samples = Samples("J", rounds, ((0.004,),) * len(rounds), failure)
    return measured([1.38, 1.40, 1.39, 1.41], quantities={"energy": samples})


@pytest.mark.parametrize(
    ("budget", "limit", "expected"),
    [
        ("energy=5mJ", 0.005, "met"),
        ("energy=4.4mJ", 0.0044, "ambiguous"),
        ("energy=+20%", 0.0048, "met"),
    ],
)
def test_a_budget_of_energy_is_judged_by_the_measured_energy(budget: str, limit: float, expected: str) -> None:
    row = with_energy(0.0044, 0.00441, 0.0044, 0.00439)
    found = judged(row, replace(searched(budget, limit), base=0.004))
    assert (found.verdict, found.value, found.slowdown) == (expected, row.value("energy"), pytest.approx(0.0))
    assert found.overhead is not None
    assert found.overhead.middle == pytest.approx(0.1)


def test_energy_of_a_single_load_meets_no_budget() -> None:
    found = judged(with_energy(0.0044), searched("energy=5mJ", 0.005))
    assert (found.verdict, found.too_few_openings) == ("ambiguous", 1)


def test_a_quantity_that_could_not_be_measured_has_no_verdict() -> None:
    for row, why in (
        (with_energy(failure="no counter"), "no counter"),
        (measured([1.0]), "energy was not measured"),
        (measured([1.0], failure="out of memory"), "out of memory"),
    ):
        assert judged(row, searched("energy=5mJ", 0.005)) == Measured(failure=why)


MET, MISSED, UNSURE = (
    measured([1.0, 1.01, 1.0, 1.01]),
    measured([1.38, 1.40, 1.39, 1.41]),
    measured([0.8, 1.3, 1.05, 1.15]),
)


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([MISSED, MET], 0, ""),
        ([UNSURE, MISSED], ExitCode.AMBIGUOUS, "not certain yet; measure longer with --repeats"),
        (
            [MISSED, MISSED],
            ExitCode.ANSWER_IS_NO,
            "no winner is within decode=1.2ms; profile more, or search with a lower",
        ),
        ([MISSED, None], ExitCode.WORLD_FAILED, ""),
        ([MET, None], 0, ""),
    ],
)
def test_the_exit_code_is_that_of_the_surest_winner(found: Sequence[Measurement | None], code: int, words: str) -> None:
    result = verified(*found)
    assert view.exit_code(result) == code
    assert words in noted(result) if words else not noted(result)


def noted(result: SearchResult) -> str:
    return "".join(section.text for section in view.sections(result) if isinstance(section, Note))


def test_a_device_that_became_slower_is_given_as_the_reason() -> None:
    result = verified(measured([1.08, 1.10, 1.09, 1.11], slow=1.2))
    assert view.exit_code(result) == ExitCode.ANSWER_IS_NO
    assert "the base is +20.0% off what it took when profiled" in noted(result)


class Sessions:
    """Stands for `Campaign.measure`: every call gives the next measurements, one for each workload."""

    def __init__(self, *found: Measurement) -> None:
        self._found = list(found)
        self.calls: list[dict[str, Any]] = []

    def measure(self, campaign: Campaign, workloads: Sequence[Workload]) -> list[Measurement]:
        options = {"seed": campaign.seed, "half_width": campaign.stop.half_width, "recalibrate": campaign.recalibrate}
        self.calls.append({"workloads": list(workloads), **options})
        return [replace(self._found.pop(0), workload=each) for each in workloads]


def verify(
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    *,
    chosen: SearchResult | None = None,
    repeats: int = 3,
    recalibrate: bool = False,
) -> list[Measured]:
    """Measurements of the winners."""
    monkeypatch.setattr(Campaign, "measure", lambda own, workloads, title: sessions.measure(own, workloads))
    device, stop = SimulatedDevice(), precise_within(0.004, 1.0, 4)
    campaign = Campaign(device, programs_for(device.info()), store, stop, seed=5, recalibrate=recalibrate)
    found = verify_choices(chosen or searched(), TEMPLATE, campaign, repeats=repeats)
    return [winner.measured for winner in found.winners if winner.measured]


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(tmp_path / "adaptare.db")


def test_an_ambiguous_winner_is_measured_again_and_all_of_it_counts(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    longer = measured([1.09, 1.1] * 8)
    sessions = Sessions(UNSURE, longer, MISSED)
    (winner,) = verify(sessions, monkeypatch, store)
    whole = pooled(UNSURE, longer)
    assert len(np.unique(whole.openings)) == 4 + 16
    assert winner == judged(whole, searched(), error=look_errors(4, 0.025)[1])
    assert winner.verdict == "met"
    assert [(each["seed"], each["half_width"]) for each in sessions.calls] == [(5, 0.004), (6, 0.002)]


def test_it_ends_after_so_many_repeats_and_calibrates_only_once(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    sessions = Sessions(*[measured([0.8, 1.55, 1.05, 1.3])] * 9)
    (winner,) = verify(sessions, monkeypatch, store, repeats=2, recalibrate=True)
    assert winner.verdict == "ambiguous"
    assert [each["recalibrate"] for each in sessions.calls] == [True, False, False]


OTHERS = [replace(CHOICE, name=f"choice {rank}", configuration=Configuration.uniform(SHAPE, rank)) for rank in (2, 3)]


def test_all_rows_of_a_verdict_have_the_same_rounds(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """A clear winner and a baseline are measured again beside an ambiguous winner."""
    sessions = Sessions(MET, UNSURE, MISSED, *[measured([1.1] * 16)] * 3)
    chosen = replace(searched(winners=[CHOICE, OTHERS[0]]), baselines=(OTHERS[1],))
    winners = verify(sessions, monkeypatch, store, chosen=chosen)
    assert [len(each["workloads"]) for each in sessions.calls] == [3, 3]
    assert [each.verdict for each in winners] == ["met", "met"]


def test_the_first_of_several_looks_needs_more_certainty(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    assert verdict(CLOSE) == "met"
    (alone,) = verify(Sessions(CLOSE), monkeypatch, store, repeats=0)
    assert (alone.verdict, alone.confidence) == ("met", pytest.approx(0.95, abs=1e-3))
    sessions = Sessions(CLOSE, CLOSE)
    (winner,) = verify(sessions, monkeypatch, store, repeats=1)
    assert len(sessions.calls) == 2
    assert winner.verdict == "met"


@pytest.mark.parametrize(("first", "second"), [(MET, "met"), (UNSURE, "ambiguous"), (MISSED, "ambiguous")])
def test_winners_after_one_that_is_not_met_share_one_error(
    first: Measurement, second: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    later = 0.95 if first is MET else 0.975
    sessions = Sessions(measured([1.1] * 6) if first is MET else first, CLOSE, CLOSE)
    winners = verify(sessions, monkeypatch, store, chosen=searched(winners=[CHOICE, *OTHERS]), repeats=0)
    assert [each.verdict for each in winners[1:]] == [second, second]
    assert [each.confidence for each in winners] == pytest.approx([0.95, later, later], abs=1e-3)


def test_what_failed_is_not_measured_again_and_a_repeat_that_fails_does_not_count(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    failed = replace(UNSURE, visits=(), reference_visits=(), failure="out of memory")
    sessions = Sessions(UNSURE, failed, failed)
    winner, _ = verify(sessions, monkeypatch, store, chosen=searched(winners=[CHOICE, OTHERS[0]]), repeats=1)
    assert [len(each["workloads"]) for each in sessions.calls] == [2, 1]
    assert winner == judged(UNSURE, searched(), error=look_errors(2, 0.025)[1])  # what fails takes nothing away


def test_seconds_slowdown_and_ratio_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    result = verified(measured([1.1, 1.1, 1.1, 1.1], slow=1.5))
    Console(as_json=False).show(result, view.sections)
    shown = capsys.readouterr().out
    assert "base 1.00 ms, in this session 1.50 ms (+50.0%)" in shown
    for words in ("1.65", "+10.0%", "missed"):
        assert words in shown


def test_a_baseline_in_a_mode_of_another_runtime_has_a_reason_and_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    wanted: list[Workload] = []
    monkeypatch.setattr(
        Campaign, "measure", lambda own, workloads, title: wanted.extend(workloads) or [measured([1.0])]
    )
    result = replace(searched(), baselines=(replace(CHOICE, name="padded", mode="padded"),))
    campaign = Campaign(SimulatedDevice(), TorchPrograms(), store, precise_within(0.004, 1.0, 4), seed=5)
    (baseline,) = verify_choices(result, TEMPLATE, campaign, repeats=0).baselines
    assert wanted == [ADAPTED]
    assert baseline.measured is not None
    assert baseline.measured.failure == "torch applies adapters swappable or merged, not 'padded'"
