"""`adaptare tune` and `adaptare demo`: from a model, data, a device and budgets to files of an adapter."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import InputError
from adaptare.core.extensions import extensions
from adaptare.core.folder_lock import locked
from adaptare.search import read_budget
from adaptare.search.export import export_kind
from adaptare.workflows import tuning
from adaptare.workflows.tuning_request import TuneRequest, claim

DEMO = ("demo", "--quick", "--model", "tiny-random", "--device", "simulated")
TUNE = ("tune", "tiny-random", "--quick", "--device", "simulated", "-o", "tuned")


def times(folder: Path) -> dict[str, int]:
    """Time of the last change of each result of a step."""
    names = ("tune", "predictor-decode-64", "trained", "front", "verified", "delivered")
    return {name: file.stat().st_mtime_ns for name in names if (file := folder / f"{name}.json").exists()}


def test_an_adapter_is_exported_for_runtimes_that_have_programs() -> None:
    assert set(tuning.APART) <= set(extensions("adaptare.programs"))
    assert {export_kind(kind).name for kind in tuning.APART.values()} == set(tuning.APART.values())


def test_an_infeasible_budget_is_answered_before_training_and_what_is_given_beside_quick_is_taken(
    run: Callable[..., Any], model_cache: Path
) -> None:
    answer = run(*TUNE, "--cache", model_cache, "--steps", 7, "--budget", "overhead=0.0001%", "--json")
    assert answer.code == 1, answer.err
    assert "smallest" in answer.json["error"]
    assert "4 of 7" not in answer.err
    recorded = json.loads(Path("tuned/tune.json").read_text(encoding="utf-8"))
    assert (recorded["steps"], recorded["held_out"]) == (7, 18)


def test_a_folder_of_other_files_is_refused_before_anything_is_measured(
    run: Callable[..., Any], model_cache: Path
) -> None:
    Path("tuned").mkdir()
    Path("tuned/adapter_config.json").write_text("{}", encoding="utf-8")
    answer = run(*TUNE, "--cache", model_cache)
    assert answer.code == 2
    assert "'tuned' holds files of another program, such as 'adapter_config.json'; name a new or empty" in answer.err
    assert [file.name for file in Path("tuned").iterdir()] == ["adapter_config.json"]


@pytest.mark.slow
def test_the_whole_path_in_one_command(run: Callable[..., Any], model_cache: Path, data: Path) -> None:
    words = (*TUNE, "--cache", model_cache, "--data", data, "--bf16")
    answer = run(*words, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    trainings = [json.loads(file.read_text()) for file in Path("tuned").glob("*/training.json")]
    assert len(trainings) == 1 + len(found["delivered"]["alone"])
    assert all(each["settings"]["bf16"] for each in trainings)
    verified = found["verification"]
    assert verified["bf16"]
    assert (found["model"], found["device"]) == ("tiny-random", "simulated")
    assert [verified["place"][name] for name in ("model", "device", "phase")] == ["tiny-random", "simulated", "decode"]
    assert verified["base"] < verified["limit"]
    for winner in verified["winners"]:
        assert winner["predicted"]["upper"] <= verified["limit"]
        value = winner["measured"]["value"]
        assert value["lower"] <= value["middle"] <= value["upper"]
        assert all(winner["configuration"]["ranks"].values())
    assert any(winner["measured"]["verdict"] == "met" for winner in verified["winners"])
    merged = verified["baselines"][0]
    assert merged["name"] == "merged"
    assert merged["measured"]["value"]["middle"] == pytest.approx(verified["base"])

    delivered, before = found["delivered"], times(Path("tuned"))
    winners = [row for row in verified["winners"] if row["measured"]["verdict"] == "met"][:2]
    assert [row["configuration"] for row in delivered["alone"]] == [row["configuration"] for row in winners]
    losses = {row["name"].replace(" ", "-"): row["val_loss"] for row in (*delivered["alone"], *winners)}
    assert losses[delivered["name"]] == min(losses.values())
    (export,) = delivered["exports"]
    assert (export["kind"], (Path(export["folder"]) / "adapter_model.safetensors").is_file()) == ("peft", True)

    page = Path("tuned/report.html").read_text(encoding="utf-8")
    for heading in ("Winners under the budget", "Predictor of latency", "Overhead", "Sessions", "How to reproduce"):
        assert f">{heading}</h3>" in page
    assert re.search("run: adaptare tune tiny-random --data .* --bf16 .*-o tuned", page)

    Path("tuned").rename("moved")
    again = run(*words, "-o", "moved")
    assert again.code == 0
    assert times(Path("moved")) == before
    assert f"{Path('moved') / delivered['name']}" in again.out
    assert "tuned" not in again.out
    Path("moved").rename("tuned")

    for other, message in (
        ((*words, "--seed", 1), "seed 0, not 1"),
        ((*words, "--budget", "overhead=9%"), "of another request: budgets [], not"),
    ):
        refused = run(*other)
        assert refused.code == 2
        assert message in refused.err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no SIGKILL")
def test_killed_in_every_step_it_goes_on_and_repeats_no_finished_step(
    run: Callable[..., Any], model_cache: Path, data: Path, tmp_path: Path
) -> None:
    words = (*TUNE, "--cache", str(model_cache), "--data", str(data), "--json")
    done = dict[str, int]()
    for sign in ("3 of 7", "training:", "random search:", "6 of 7", "polishing:"):
        command = [sys.executable, "-m", "adaptare", *words]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stderr
            said = []
            for line in process.stderr:
                said.append(line.decode())
                if sign in said[-1]:
                    break
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "".join(said)
        now = times(tmp_path / "tuned")
        assert done.items() <= now.items()
        done = now
    assert set(done) == {"tune", "predictor-decode-64", "trained", "front", "verified"}
    finished = run(*words)
    assert finished.code == 0, finished.err
    assert done.items() <= times(tmp_path / "tuned").items()
    assert "training:" not in finished.err
    losses = json.loads((tmp_path / "tuned/winner-1-alone-training/training.json").read_text())["losses"]
    assert len(losses) == 30
    (tmp_path / "tuned/delivered.json").unlink()
    alone = [(file, file.stat().st_mtime_ns) for file in sorted(tmp_path.glob("tuned/winner-1-alone/*"))]
    written = run(*words)
    assert written.code == 0
    assert alone == [(file, file.stat().st_mtime_ns) for file, _ in alone] != []
    assert written.json["delivered"] == finished.json["delivered"]


@pytest.mark.slow
def test_several_budgets_have_a_predictor_each(run: Callable[..., Any], model_cache: Path, data: Path) -> None:
    budgets = ("--budget", "decode@32=+30%", "--budget", "prefill@16=+30%")
    answer = run(*TUNE, *budgets, "--cache", model_cache, "--data", data, "--json")
    assert answer.code == 0, answer.err
    (prefill,) = answer.json["verification"]["further"]
    assert (prefill["place"]["phase"], prefill["place"]["length"]) == ("prefill", 16)
    assert len(answer.json["predictors"]) == 2
    assert {"predictor-decode-32.json", "predictor-prefill-16.json"} <= {each.name for each in Path("tuned").iterdir()}


def test_until_training_begins_the_folder_takes_another_budget(tmp_path: Path) -> None:
    request = TuneRequest("tiny-random", tmp_path / "tuned", "simulated", (read_budget("overhead=1%"),))
    other = replace(request, budgets=(read_budget("overhead=30%"),))
    claim(request)
    (request.output / "first-look.json").write_text("{}")
    claim(other)
    assert not (request.output / "first-look.json").exists()
    with pytest.raises(InputError, match="seed 0, not 1"):
        claim(replace(other, seed=1))
    (request.output / "super-adapter").mkdir()
    with pytest.raises(InputError, match="is of another request: budgets"):
        claim(request)


def test_a_folder_of_a_version_without_bfloat16_goes_on(tmp_path: Path) -> None:
    request = TuneRequest("tiny-random", tmp_path / "tuned", "simulated")
    claim(request)
    record = request.output / "tune.json"
    record.write_text(json.dumps({name: own for name, own in json.loads(record.read_text()).items() if name != "bf16"}))
    claim(request)
    with pytest.raises(InputError, match="bf16 False, not True"):
        claim(replace(request, bf16=True))


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (("overhead=5%", "decode=20ms"), "of the budgets overhead=5% and decode=20ms, two limit the same quantity"),
        (("overhead=5%", "energy=5mJ"), "simulated has no energy counter that can be read"),
    ],
)
def test_budgets_that_nothing_can_decide_are_refused_before_anything_is_measured(
    run: Callable[..., Any], model_cache: Path, tmp_path: Path, budgets: tuple[str, ...], message: str
) -> None:
    answer = run(*TUNE, *(f"--budget={each}" for each in budgets), "--cache", model_cache)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([], DEMO, "is empty"),
        ([40 * f"{number} + " for number in range(12)], DEMO, "none of 8 examples has a completion within 64 tokens"),
        ([f"{number} + 1" for number in range(12)], (*TUNE, "--max-tokens", 1), "max_tokens must be at least 2, not 1"),
    ],
)
def test_bad_data_is_refused_before_anything_is_measured(
    run: Callable[..., Any], model_cache: Path, rows: list[str], words: tuple[object, ...], message: str
) -> None:
    Path("rows.jsonl").write_text("\n".join(json.dumps({"prompt": row, "completion": "1"}) for row in rows))
    answer = run(*words, "--cache", model_cache, "--data", "rows.jsonl")
    assert answer.code == 2
    assert message in answer.err
    assert [file.name for file in Path().iterdir()] == ["rows.jsonl"]


def test_a_folder_of_another_task_is_refused_before_anything_is_measured(
    run: Callable[..., Any], model_cache: Path
) -> None:
    Path("adaptare-demo/super-adapter").mkdir(parents=True)
    Path("adaptare-demo/super-adapter/task.json").write_text("{}")
    answer = run(*DEMO, "--cache", model_cache)
    assert answer.code == 2
    assert "2 of 7" not in answer.err
    assert not Path("adaptare-demo/adaptare.db").exists()


@pytest.mark.parametrize("words", [DEMO, ("train", "tiny-random", "-o", "adaptare-demo")], ids=["demo", "train"])
def test_a_folder_in_which_another_process_works_is_refused(
    run: Callable[..., Any], model_cache: Path, words: tuple[str, ...]
) -> None:
    with locked("adaptare-demo"):
        answer = run(*words, "--cache", model_cache)
    assert answer.code == 2
    assert "another process works in 'adaptare-demo' already; wait until it ends" in answer.err
    assert not Path("adaptare-demo").exists()
