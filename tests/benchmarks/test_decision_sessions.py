"""Kept sessions of `decisions.py` are read as they were written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from decision_sessions import first_groups, read, written
from decision_tasks import session_tasks

# Reading the shape of the model takes half a minute.
pytestmark = [pytest.mark.demo_model, pytest.mark.slow]
KEPT = Path(__file__).parents[2] / "benchmarks" / "measured" / "sessions"


@pytest.mark.parametrize("file", sorted(KEPT.glob("*.json")), ids=lambda file: file.stem)
def test_a_session_is_written_as_it_was_read(file: Path) -> None:
    content = json.loads(file.read_text())
    session = read(file)
    again = written(list(session.rows.values()))
    assert again["base"] == content["base"]
    assert again["mode"] == content["mode"]
    for new, old in zip(again["groups"], content["groups"], strict=True):
        assert new["base_s"] == old["base_s"]
        assert [row["ranks"] for row in new["rows"]] == [row["ranks"] for row in old["rows"]]
        for ours, theirs in zip(new["rows"], old["rows"], strict=True):
            assert np.array(ours["ratios"]) == pytest.approx(np.array(theirs["ratios"]), rel=1e-5)
    assert (session.look is None) == (content["look"] is None)
    assert "host" not in content["machine"]


def test_first_groups_are_a_look_at_later_ones() -> None:
    rows = list(read(KEPT / "ort-int4-20261129T0152.json").rows.values())
    assert first_groups(rows) is None, "three openings are too few"
    last = [row for row in rows if row.openings.min()]
    assert first_groups(last) is None, "nothing follows"


def test_sessions_of_one_boot_without_load_are_told_from_others() -> None:
    first, loaded, later = (read(KEPT / f"torch-fp32-20261129T{time}.json") for time in ("0152", "0303", "0557"))
    assert [first.loaded, loaded.loaded, later.loaded] == [False, True, False]
    assert first.boot == loaded.boot != later.boot


@pytest.mark.parametrize("parts", [2, 4])
def test_every_adapter_of_another_session_is_judged_once_by_the_other_parts(parts: int, tmp_path: Path) -> None:
    for time in ("0259", "0552"):
        shutil.copy(KEPT / f"ort-int4-20261129T{time}.json", tmp_path)
    tasks = list(session_tasks(tmp_path, parts))
    adapters = [[row.workload.configuration for row in task.judged] for task in tasks]
    for session in {task.session for task in tasks}:
        judged = [each for task, own in zip(tasks, adapters, strict=True) if task.session == session for each in own]
        assert len(judged) == len(set(judged)) == 24
    for task, own in zip(tasks, adapters, strict=True):
        assert len(task.fitted) == 24 - len(own)
        assert not set(own) & {row.workload.configuration for row in task.fitted}
