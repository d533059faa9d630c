"""Plugin of pytest: the fixture `assert_overhead`, options for baselines and undecided guards, and a summary.

Importing it imports neither numpy nor a runtime; pytest loads it wherever adaptare is installed.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from adaptare.devices import Device
    from adaptare.profiler import Mode, Phase
    from adaptare.workflows.guarding import GuardResult

PROPERTY: Final = "adaptare"
SUMMARY: Final = "--adaptare-summary"
KEEP: Final = "--adaptare-keep-baseline"
UNDECIDED: Final = "--adaptare-undecided"
HEADINGS: Final = ("test", "workload", "device", "overhead", "95 % interval", "limit", "verdict")


class UndecidedOverheadWarning(UserWarning):
    """A guard could not decide in the given time, because the limit lies inside the interval of the overhead."""


@dataclass(frozen=True)
class AssertOverhead:
    """Value of the fixture `assert_overhead` in one test."""

    request: pytest.FixtureRequest

    def __call__(
        self,
        adapter: str | Path | int,
        device: "str | Device",
        below: str | float = "5%",
        *,
        model: str | None = None,
        at: str = "decode@64",
        mode: "Mode" = "swappable",
        seconds: float = 60.0,
        baseline: str | Path | None = None,
        band: str | float = "1%",
    ) -> "GuardResult":
        """Fails if the overhead of an adapter is certainly above a limit, or certainly larger than it was.

        The adapter and its base are measured interleaved. The 95 % interval of the overhead decides: the test passes if
        the interval lies below the limit, and fails if it lies above. If the limit is inside, or openings are too few
        for an interval, the test passes with an `UndecidedOverheadWarning` that says how long to measure; with
        `--adaptare-undecided=fail` it fails.

        Args:
            adapter: PEFT folder, or a rank on every linear.
            device: Spelling, such as `ort-cpu:int4,threads=2`, or a `Device`.
            below: Limit of the overhead, such as `5%` or 0.05.
            model: Base model; by default the one that the adapter names.
            at: Phase and length, `decode@64` or `prefill@128`.
            mode: Application of the adapter: `swappable`, `static`, `padded`, `merged` or `requantised`.
            seconds: Time limit of the measurement.
            baseline: Store with an earlier measurement. The test fails if the overhead is certainly larger than there,
                by more than `band`, and lists what differs between the environments. With `--adaptare-keep-baseline`
                nothing is compared; the measurement is appended to the store.
            band: Differences of the overhead up to this are none.

        Returns:
            The measurement and its comparisons.

        Raises:
            InputError: An argument is wrong, or the baseline has no such measurement.
            DeviceError: The device or the base fails.
            ProgramError: The adapter does not run.
        """
        from adaptare.profiler import Store
        from adaptare.workflows.guarding import GuardRequest, guard

        keep, (phase, length) = bool(self.request.config.getoption(KEEP)), _workload(at)
        guarded = GuardRequest(
            adapter,
            device,
            _share(below),
            model=model,
            phase=phase,
            length=length,
            mode=mode,
            seconds=seconds,
            baseline=None if keep else baseline,
            band=_share(band),
        )
        result = guard(guarded)
        if keep and baseline is not None:
            Store(baseline).append([result.measurement])
        self.request.node.user_properties.append((PROPERTY, json.dumps(_row(result))))
        failure = "\n".join(_failures(result))
        if failure:
            pytest.fail(failure, pytrace=False)
        if result.judgement == "undecided":
            advice = f"{result.words}: the limit of {result.limit:.1%} is not decided; {_advice(result)}"
            if self.request.config.getoption(UNDECIDED) == "fail":
                pytest.fail(advice, pytrace=False)
            warnings.warn(advice, UndecidedOverheadWarning, stacklevel=2)
        return result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("adaptare", "overhead of adapters (fixture assert_overhead)")
    group.addoption(
        KEEP, action="store_true", help="append measurements to the baselines of assert_overhead, compare nothing"
    )
    group.addoption(
        UNDECIDED,
        choices=("warn", "fail"),
        default="warn",
        help="what an overhead does whose interval contains its limit (default: warn)",
    )
    group.addoption(SUMMARY, metavar="FILE", default="", help="append a table of all overheads in Markdown to a file")


@pytest.fixture
def assert_overhead(request: pytest.FixtureRequest) -> AssertOverhead:
    """Fails if an adapter costs more than a limit, or more than before, for certain; see `AssertOverhead`."""
    return AssertOverhead(request)


def _share(given: str | float) -> float:
    """A share given as a number or in per cent."""
    from adaptare.core import InputError

    try:
        share = float(given.removesuffix("%")) / 100 if isinstance(given, str) and given.endswith("%") else given
        if not isinstance(share, str) and math.isfinite(share):
            return share
    except ValueError:
        pass
    raise InputError(f"write a share such as '5%' or 0.05, not {given!r}")


def _workload(at: str) -> "tuple[Phase, int]":
    """Phase and length of `decode@64`."""
    from adaptare.core import InputError

    phase, _, length = at.partition("@")
    if phase not in ("prefill", "decode") or not length.isdigit() or (phase == "prefill" and int(length) < 1):
        raise InputError(f"at must be a phase and a length, such as decode@64 or prefill@128, not {at!r}")
    return ("prefill" if phase == "prefill" else "decode"), int(length)


def _failures(result: "GuardResult") -> Iterator[str]:
    """Lines of the message of a failed test; none if it passes."""
    from adaptare.core.units import percent

    if result.judgement == "above":
        yield f"{result.words}, and the limit is {result.limit:.1%}"
    if result.regressed and result.compared:
        change = result.compared.difference
        yield f"{result.words}: {percent(change.middle)} {change.ends(percent)} slower than the baseline"
        yield "environments differ in:" if result.environment else "no recorded fact of the environments differs"
        yield from (f"  {words}" for words in result.environment)


def _advice(result: "GuardResult") -> str:
    if result.seconds_needed is None:
        return "it is too close to the limit for any session; choose another limit"
    return f"measure longer, with seconds={10 * math.ceil(result.seconds_needed / 10)}"


def _row(result: "GuardResult") -> dict[str, object]:
    """Entries of the summary."""
    measured = result.measurement
    return {
        "workload": f"{result.adapter}, {measured.workload.describe()}",
        "device": f"{measured.device.device}, {measured.device.runtime}",
        "overhead": [measured.overhead.lower, measured.overhead.middle, measured.overhead.upper],
        "limit": result.limit,
        "verdict": "slower than the baseline" if result.regressed else result.judgement,
        "environment": list(result.environment) if result.regressed else [],
    }


def _cells(test: str, row: Mapping[str, Any]) -> list[str]:
    lower, middle, upper = row["overhead"]
    ends = f"[{lower:+.1%}, {upper:+.1%}]"
    return [test, row["workload"], row["device"], f"{middle:+.1%}", ends, f"{row['limit']:.1%}", row["verdict"]]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints one line per guard, and appends the table to the file of the summary."""
    reports = [each for some in terminalreporter.stats.values() for each in some if getattr(each, "when", "") == "call"]
    rows = [
        (report.nodeid, json.loads(value))
        for report in reports
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not rows:
        return
    terminalreporter.section("overhead of adapters")
    for test, row in rows:
        _, workload, device, overhead, ends, limit, verdict = _cells(test, row)
        terminalreporter.line(f"{verdict}: {overhead} {ends}, limit {limit}: {workload} on {device}")
    if summary := config.getoption(SUMMARY):
        lines = [HEADINGS, ["---"] * len(HEADINGS), *(_cells(test, row) for test, row in rows)]
        differing = [f"- {test}: {words}" for test, row in rows for words in row["environment"]]
        text = ["### Overhead of adapters", "", *(f"| {' | '.join(cells)} |" for cells in lines), ""]
        text += ["Differences from the environment of the baseline:", "", *differing, ""] if differing else []
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("\n".join([*text, ""]))
