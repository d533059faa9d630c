"""Campaigns that run now, as other processes see them."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from adaptare.profiler import precise_within
from adaptare.profiler.measuring import Progress
from adaptare.workflows.profiling.campaign import Watched
from adaptare.workflows.profiling.running import (
    RunningCampaign,
    announced,
    running_campaigns,
    store_name,
)

STATE = RunningCampaign("/lab/adaptare.db", "ort-cpu:int4", "measuring decode", planned=24, started_s=0.0)
# A campaign in a process of its own, which says when it is announced and then waits.
WAITING = """
import sys, time
from adaptare.workflows.profiling.running import RunningCampaign, announced
with announced(RunningCampaign(sys.argv[1], "simulated", "measuring", 8, time.time())):
    print("announced", flush=True)
    sys.stdin.read()
"""


def announcements() -> list[Path]:
    return list((user_cache_path("adaptare") / "campaigns").glob("*"))


def test_a_campaign_is_seen_by_its_store_or_folder_until_it_ends() -> None:
    with announced(STATE) as announcement:
        assert running_campaigns(["/lab/adaptare.db"]) == running_campaigns(["/lab"]) == [STATE]
        assert running_campaigns(["/lab/other.db"]) == running_campaigns(["/"]) == []
        announcement.change(measured=8)
        assert running_campaigns(["/lab"]) == [replace(STATE, measured=8)]
    assert running_campaigns(["/lab"]) == []
    assert announcements() == []
    with announced(replace(STATE, started_s=2.0)), announced(replace(STATE, started_s=1.0)):
        assert [each.started_s for each in running_campaigns(["/lab"])] == [1.0, 2.0]


def test_a_killed_campaign_does_not_run_and_leaves_nothing(tmp_path: Path) -> None:
    store = str(tmp_path / "adaptare.db")
    command = [sys.executable, "-c", WAITING, store]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "announced\n"
        (seen,) = running_campaigns([store])
        assert (seen.planned, seen.measured) == (8, 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert announcements() != []
    assert running_campaigns([store]) == []
    assert announcements() == []


def test_intervals_of_a_group_are_kept_and_those_of_the_one_before_are_not() -> None:
    with announced(STATE) as announcement:
        for group, opening, width in (
            (0, 0, math.inf),
            (0, 3, 9.0),
            (0, 4, 0.05),
            (0, 4, 0.05),
            (0, 5, 0.03),
            (1, 0, math.inf),
        ):
            announcement.round(Progress(group, 2, 8, opening, half_width=width), 0.3, f"group {group}")
            announcement.change()
            (seen,) = running_campaigns(["/lab"])
            if (group, opening) == (0, 5):
                assert seen.half_widths == (0.05, 0.03)
        assert (seen.half_widths, seen.doing, seen.share) == ((), "group 1", 0.3)


@pytest.mark.parametrize(("limit_s", "share"), [(math.inf, 0.005), (1e-9, 0.99)])
def test_the_share_that_is_done_is_that_of_the_time_if_the_time_ends_first(limit_s: float, share: float) -> None:
    told: list[float] = []
    rule, never = precise_within(0.01, 10.0), bool
    watched = Watched(rule, never, lambda share, doing: told.append(share), limit_s=limit_s)
    watched.opening_reason(Progress(0, 100, 8, 0, rounds=1, elapsed_s=5.0))
    assert told == [pytest.approx(share)]


def test_the_time_left_is_estimated_from_the_share() -> None:
    begun = replace(STATE, started_s=time.time() - 60, share=0.1)
    assert begun.time_left == "about 9 min left"
    assert replace(begun, share=0.0).time_left == ""


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"store": "/lab/adaptare.db"})])
def test_a_damaged_announcement_is_left_out(content: str) -> None:
    with announced(STATE):
        (file,) = (each for each in announcements() if each.suffix == ".json")
        file.write_text(content, encoding="utf-8")
        assert running_campaigns(["/lab"]) == []


def test_a_campaign_runs_without_a_place_for_its_announcement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with announced(STATE) as announcement:
        announcement.change(measured=1)
        assert running_campaigns(["/lab"]) == []


def test_the_name_of_a_store_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_name("adaptare.db") == str(tmp_path / "adaptare.db")
    assert store_name("postgresql://me:secret@host/lab") == "postgresql://me:***@host/lab"
