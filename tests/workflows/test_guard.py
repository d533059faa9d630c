"""The guard of tests of users: what passes, fails and is undecided, on the simulated device."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from adaptare.core import InputError
from adaptare.profiler import Measurement, Store
from adaptare.profiler.analysis import Interval
from adaptare.workflows.comparison import Compared
from adaptare.workflows.guarding import GuardRequest, GuardResult, changes, guard, judged

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "adaptare.testing.guard")
# Rank 8 on all linears of the tiny model costs about 50 % on the simulated device.
TEST = """
def test_cost(assert_overhead):
    assert_overhead(8, "simulated", {arguments}, model="tiny-random")
"""


@pytest.mark.parametrize(
    ("overhead", "too_few", "expected"),
    [
        ((0.01, 0.02, 0.05), False, "below"),
        ((0.01, 0.02, 0.0501), False, "undecided"),
        ((0.0501, 0.06, 0.07), False, "above"),
        ((0.2, 0.2, 0.2), True, "undecided"),
    ],
)
def test_the_whole_interval_decides(overhead: tuple[float, float, float], too_few: bool, expected: str) -> None:
    assert judged(Interval(*overhead), 0.05, too_few=too_few) == expected


@pytest.fixture(scope="module")
def measured(model_cache: Path) -> Measurement:
    """Rank 8 on every linear of the tiny model."""
    return guard(GuardRequest(8, "simulated", 0.05, model="tiny-random", seconds=0.5, cache=model_cache)).measurement


def slowed(measurement: Measurement, factor: float) -> Measurement:
    """The measurement as if the adapter had taken longer."""
    visits = tuple(replace(each, samples_s=tuple(factor * s for s in each.samples_s)) for each in measurement.visits)
    return replace(measurement, visits=visits)


def test_changes_lists_what_stays_the_same_unless_somebody_changed_it(measured: Measurement) -> None:
    before = {"python": "3.11.7", "packages": {"torch": "2.12.0", "peft": "0.18"}, "load_average": [1.0], "boot": "a"}
    after = {"python": "3.11.7", "packages": {"torch": "2.13.0", "peft": "0.18"}, "load_average": [5.0], "boot": "b"}
    one = replace(measured, environment={"before": before})
    other = replace(
        measured,
        environment={"before": {**after, "governor": "powersave"}},
        device=replace(measured.device, runtime="simulated 2"),
    )
    assert list(changes(one, other)) == [
        "device: runtime 'simulated' and 'simulated 2'",
        "governor: not recorded and powersave",
        "packages.torch: 2.12.0 and 2.13.0",
    ]
    assert list(changes(one, one)) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GuardRequest(8, "simulated", 0.05), "names no base; name the model"),
        (GuardRequest(8, "simulated", float("nan"), model="tiny-random"), "share of the base's latency, such as 5%"),
        (GuardRequest("absent", "simulated", 0.05), "is no PEFT folder"),
    ],
)
def test_a_wrong_request_is_refused(request_: GuardRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        guard(request_)


def test_a_baseline_without_the_workload_is_refused_before_measuring(
    measured: Measurement, tmp_path: Path, model_cache: Path
) -> None:
    Store(tmp_path / "kept.db").append([measured])
    wanted = GuardRequest(
        4, "simulated", 0.05, model="tiny-random", baseline=tmp_path / "kept.db", seconds=1e9, cache=model_cache
    )
    with pytest.raises(InputError, match="none of this model, adapter, phase and mode; keep one there first"):
        guard(wanted)
    with pytest.raises(InputError, match="only those of simulated; keep one"):
        guard(replace(wanted, adapter=8, device="simulated:launch_s=1e-4"))


@pytest.fixture
def guards(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shared_folder: Path) -> pytest.Pytester:
    """A project whose tests use the guard."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_folder))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def test_an_adapter_below_its_limit_passes_and_one_above_fails_with_the_interval(guards: pytest.Pytester) -> None:
    above = TEST.format(arguments='below="5%", seconds=0.5').replace("test_cost", "test_too_slow")
    guards.makepyfile(TEST.format(arguments='below="100%", seconds=0.5') + above)
    result = guards.runpytest(*PLUGIN, "--adaptare-summary=summary.md")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*simulated: overhead +*% [[]+*%, +*%], and the limit is 5.0%"])
    result.stdout.fnmatch_lines(["*overhead of adapters*", "below: +*, limit 100.0%: *decode*on simulated*"])
    lines = (guards.path / "summary.md").read_text().splitlines()
    assert lines[2].startswith("| test | workload | device | overhead")
    assert "test_cost" in lines[4]
    assert lines[4].endswith("| 100.0% | below |")


# In each opening, the adapter has a luck of its own, as with memory layouts.
NOISY = """
import numpy as np
from adaptare.devices import SimulatedDevice

class Luck:
    def factor(self, moment, rng):
        return 1 + 0.2 * np.sin(moment.opening * (1 + len(moment.program) + ord(moment.program[0])))

def test_cost(assert_overhead):
    device = SimulatedDevice(noise=[Luck()])
    # So little time that there are always four openings.
    assert_overhead(8, device, below="40%", model="tiny-random", seconds=1e-6)
"""


def test_a_limit_inside_the_interval_is_undecided_with_the_time_that_would_decide(guards: pytest.Pytester) -> None:
    guards.makepyfile(NOISY)
    result = guards.runpytest(*PLUGIN, "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*UndecidedOverheadWarning*the limit of 40.0% is not decided; measure longer, with seconds=*0"]
    )
    failed = guards.runpytest(*PLUGIN, "--adaptare-undecided=fail")
    failed.assert_outcomes(failed=1)


def test_a_regression_from_the_baseline_fails_with_what_changed(guards: pytest.Pytester, measured: Measurement) -> None:
    earlier = replace(slowed(measured, 0.9), environment={"before": {"packages": {"torch": "2.12.0"}}})
    Store(guards.path / "kept.db").append([earlier])
    guards.makepyfile(TEST.format(arguments='below="100%", seconds=0.5, baseline="kept.db"'))
    result = guards.runpytest(*PLUGIN, "--adaptare-summary=summary.md")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*slower than the baseline", "environments differ in:", "*packages.torch: 2.12.0 and*"]
    )
    assert "packages.torch: 2.12.0 and not recorded" in (guards.path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("lower", "too_few", "regressed"), [(0.002, 0, False), (0.011, 0, True), (0.011, 2, False), (-0.01, 0, False)]
)
def test_a_regression_is_beyond_the_band_by_the_whole_interval(
    measured: Measurement, lower: float, too_few: int, regressed: bool
) -> None:
    difference = Interval(lower, lower + 0.01, lower + 0.02)
    compared = Compared("hash", "r4", 14, 100, 1e-3, 1e-3, difference, "slower", "measured", too_few)
    result = GuardResult("r4", measured, 1.0, "below", compared=compared, band=0.01)
    assert result.regressed == regressed


def test_a_kept_baseline_passes_afterwards(guards: pytest.Pytester) -> None:
    guards.makepyfile(TEST.format(arguments='below="100%", seconds=0.5, baseline="kept.db"'))
    missing = guards.runpytest(*PLUGIN)
    missing.assert_outcomes(failed=1)
    guards.runpytest(*PLUGIN, "--adaptare-keep-baseline").assert_outcomes(passed=1)
    assert len(Store(guards.path / "kept.db", create=False).measurements()) == 1
    guards.runpytest(*PLUGIN).assert_outcomes(passed=1)
    assert len(Store(guards.path / "kept.db", create=False).measurements()) == 1


def test_wrong_arguments_are_explained(guards: pytest.Pytester) -> None:
    guards.makepyfile(
        TEST.format(arguments='below="5"')
        + TEST.format(arguments='below="5%", at="decode"').replace("test_cost", "test_length")
    )
    result = guards.runpytest(*PLUGIN)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*write a share such as '5%' or 0.05, not '5'*"])
    result.stdout.fnmatch_lines(["*at must be a phase and a length, such as decode@64*"])


def test_the_plugin_imports_nothing_heavy(guards: pytest.Pytester) -> None:
    guards.makepyfile("import sys\ndef test_it():\n    assert not {'numpy', 'torch', 'sqlalchemy'} & set(sys.modules)")
    guards.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.parametrize(("package", "installed"), [("", "/checkout[demo]"), ("adaptare==1.0", "adaptare==1.0")])
def test_the_action_installs_its_own_version_unless_another_is_named(package: str, installed: str) -> None:
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["inputs"]["package"]["default"] == ""
    (step,) = (step for step in action["runs"]["steps"] if step.get("name") == "Install")
    command = ["bash", "-e", "-c", f"python() {{ echo $*; }}; {step['run']}"]  # prints what it would call
    variables = {**os.environ, "PACKAGE": package, "GITHUB_ACTION_PATH": "/checkout"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == [installed, "pytest"]


@pytest.mark.slow
def test_the_step_of_the_action_runs_the_tests_and_writes_the_job_summary(guards: pytest.Pytester) -> None:
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    step = action["runs"]["steps"][-1]
    assert {f"${{{{ inputs.{name} }}}}" for name in ("tests", "undecided", "keep-baseline")} == set(
        step["env"].values()
    )
    guards.makepyfile(TEST.format(arguments='below="100%", seconds=0.5'))
    # The action takes the Python that the workflow has set up.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {
        "PATH": path,
        "TESTS": "-q .",
        "UNDECIDED": "warn",
        "KEEP_BASELINE": "false",
        "GITHUB_STEP_SUMMARY": "job.md",
    }
    command = ["bash", "-e", "-c", step["run"]]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| below |" in (guards.path / "job.md").read_text()
