from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = ("demo", "--quick", "--model", "tiny-random", "--device", "simulated")


@pytest.mark.slow
def test_the_whole_path_in_one_command(run: Callable[..., Any], model_cache: Path, data: Path) -> None:
    words = (*QUICK, "--cache", model_cache, "--data", data)
    answer = run(*words, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    verified = found["verification"]
    assert (found["model"], found["device"]) == ("tiny-random", "simulated")
    assert [verified["place"][name] for name in ("model", "device", "phase")] == ["tiny-random", "simulated", "decode"]
    first = {row["mode"]: row for row in found["first"]["rows"]}
    assert first["swappable"]["base_s"] <= first["swappable"]["latency"]["middle"]
    assert verified["base"] < verified["limit"]
    assert {"rows", "mae_overhead_points", "mape", "kendall_tau", "coverage"} <= set(found["predictor"])
    assert {"elapsed_s", "training"} <= set(found)
    for winner in verified["winners"]:
        assert winner["predicted"]["upper"] <= verified["limit"]
        value = winner["measured"]["value"]
        assert value["lower"] <= value["middle"] <= value["upper"]
        assert all(winner["configuration"]["ranks"].values())
    assert len(found["exports"]) == len(verified["winners"])
    for export in found["exports"]:
        assert export["difference"] < 1e-4
        assert (Path(export["folder"]) / "adapter_model.safetensors").is_file()
    assert any(winner["measured"]["verdict"] == "met" for winner in verified["winners"])
    names = [baseline["name"] for baseline in verified["baselines"]]
    assert names == [
        "merged",
        *(f"uniform {rank}" for rank in (2, 4, 8, 16)),
        "midpoint",
        "q+v 16",
        "greedy by gate gradients",
        "random search",
    ]
    merged = verified["baselines"][0]
    assert merged["measured"]["value"]["middle"] == pytest.approx(verified["base"])

    again = run(*words)
    assert again.code == 0
    assert "Budget overhead=" in again.out
    assert "met" in again.out
    assert "What to run next" in again.out

    other = run(*QUICK, "--cache", model_cache, "--data", data, "--seed", 1)
    assert other.code == 2
    assert "is of another task: seed 0, not 1" in other.err


def test_an_infeasible_budget_is_answered_before_training(
    run: Callable[..., Any], model_cache: Path, data: Path
) -> None:
    answer = run(*QUICK, "--cache", model_cache, "--data", data, "--budget", "overhead=0.01%", "--json")
    assert answer.code == 1
    assert "smallest" in answer.json["error"]
    assert "4 of 6" not in answer.err


def test_bad_data_is_refused_before_anything_is_measured(run: Callable[..., Any], model_cache: Path) -> None:
    Path("empty.jsonl").write_text("")
    answer = run(*QUICK, "--cache", model_cache, "--data", "empty.jsonl")
    assert answer.code == 2
    assert "is empty" in answer.err
    assert not Path("adaptare-demo").exists()


def test_a_folder_of_another_task_is_refused_before_anything_is_measured(
    run: Callable[..., Any], model_cache: Path
) -> None:
    for steps in (30, 45):
        Path(f"adaptare-demo/super-adapter-{steps}").mkdir(parents=True)
        Path(f"adaptare-demo/super-adapter-{steps}/task.json").write_text("{}")
    answer = run(*QUICK, "--cache", model_cache)
    assert answer.code == 2
    assert "2 of 6" not in answer.err
    assert not Path("adaptare-demo/adaptare.db").exists()
