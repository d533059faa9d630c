"""From a campaign to an export, command by command, on a simulated device and a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from adaptare.profiler import Space, open_model, read_peft
from adaptare.workflows.search import problem, searching

MODEL = "tiny-random"
DEVICE = ("--device", "simulated")
TRAIN = ("train", MODEL, "--steps", 6, "--space", "sites")
SEARCH = ("search", "run", "--predictor", "predictor-decode")


@pytest.fixture(scope="module")
def trained_once(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    cache = ("--cache", model_cache)
    with commands_in(folder) as run:
        assert run("profile", MODEL, *DEVICE, *cache, "--space", "sites", "--count", 16).code == 0
        assert run("fit", *DEVICE).code == 0
        assert run(*TRAIN, "-o", "run", "--data", write_data(folder), "--held-out", 8, *cache).code == 0
        assert run(*SEARCH, "--budget", "overhead=40%", "--evaluations", 6).code == 0
    return folder


@pytest.fixture
def trained(run_in_copy: Callable[..., Any], trained_once: Path) -> Callable[..., Any]:
    """A profiled, fitted, trained and searched model, and the runner to go on with."""
    run: Callable[..., Any] = run_in_copy(trained_once)
    return run


def test_from_profile_to_export(trained: Callable[..., Any], tmp_path: Path) -> None:
    found = trained(*SEARCH, "--budget", "overhead=40%", "--evaluations", 12, "--json")
    assert found.code == 0
    selection = found.json
    assert selection["limit"] == pytest.approx(1.4 * selection["base"])
    assert {"merged", "uniform 16", "q+v 16", "MLP 16", "midpoint", "random search", "greedy by gate gradients"} <= {
        each["name"] for each in selection["baselines"]
    }
    assert all(each["predicted"]["upper"] <= selection["limit"] for each in selection["winners"])
    # Eight starts, four sets of kinds, and two more of what one of these shrank to for three parts of the budget.
    assert selection["evaluations"] == {"staged-fisher": 14, "random": 14}
    # No expected loss is below that of what was shrunk.
    assert selection["winners"][0]["found_by"] == "staged-fisher"
    assert [each["predicted"]["upper"] for each in selection["winners"]] == sorted(
        (each["predicted"]["upper"] for each in selection["winners"]), reverse=True
    )

    # Within one opening no budget is met.
    unsure = trained("verify", "run/front.json", "--openings", 1, "--repeats", 0, "--json")
    assert unsure.code == 4
    assert {winner["measured"]["verdict"] for winner in unsure.json["winners"]} == {"ambiguous"}
    assert "not certain yet; measure with more --openings" in unsure.err
    verified = trained("verify", "run/front.json", "--json")
    assert verified.code == 0
    assert {winner["measured"]["verdict"] for winner in verified.json["winners"]} == {"met"}
    for winner in verified.json["winners"]:
        measured, predicted = winner["measured"]["value"], winner["predicted"]
        assert measured["lower"] <= measured["middle"] <= measured["upper"]
        assert predicted["lower"] <= measured["middle"] <= predicted["upper"] * 1.02

    exported = trained("export", "run/front.json", "--winner", 1, "-o", "adapter", "--json")
    assert exported.code == 0
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    ranks = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(a)
        for name, a in tensors.items()
        if "lora_A" in name
    }
    assert ranks == selection["winners"][0]["configuration"]["ranks"] == exported.json["configuration"]["ranks"]

    predicted = trained("predict", "predictor-decode", "adapter", "--json")
    assert predicted.json["rows"][0]["predicted"]["middle"] == pytest.approx(
        selection["winners"][0]["predicted"]["middle"]
    )


def test_a_budget_in_milliseconds_may_be_of_the_present_session(trained: Callable[..., Any]) -> None:
    base_s = json.loads(Path("run/front.json").read_text())["base"]
    words = (*SEARCH, "--evaluations", 8, "--budget", f"decode={1.3 * base_s * 1e6}us", "--json")
    found = trained(*words, "--recalibrate")
    assert found.code == 0, found.err
    now = found.json["recalibration"]
    assert now["fitted_s"] == base_s
    assert now["openings"] >= 4
    assert found.json["base"] == now["now_s"]["middle"]
    assert all(each["predicted"]["upper"] <= found.json["limit"] for each in found.json["winners"])
    verified = trained("verify", "run/front.json", "--openings", 4, "--json")
    assert verified.code == 0, verified.err
    assert verified.json["recalibration"] == now


class Stuck:
    """Proposes one configuration only."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._lowest = np.zeros(space.n_axes, dtype=np.int64)

    def ask(self, n: int) -> NDArray[np.int64]:
        return np.tile(self._lowest, (n, 1))

    def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        pass


def test_the_best_of_everything_that_was_evaluated_wins(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = problem.algorithm_named
    monkeypatch.setattr(searching, "algorithm_named", lambda name: Stuck)
    monkeypatch.setattr(searching, "by_estimate", lambda *ignored: None)
    monkeypatch.setattr(problem, "algorithm_named", lambda name: named(name) if name == "random" else Stuck)
    words = (*SEARCH, "--budget", "overhead=40%", "--evaluations", 12)
    found = trained(*words, "--algorithm", "stuck", "--json").json
    winner, baselines = found["winners"][0], {each["name"]: each for each in found["baselines"]}
    fitting = [
        each["val_loss"]
        for each in baselines.values()
        if each["mode"] == winner["mode"] and each["predicted"]["upper"] <= found["limit"]
    ]
    assert baselines["random search"]["val_loss"] in fitting
    assert winner["val_loss"] == min(fitting)
    assert baselines[winner["found_by"]]["configuration"] == winner["configuration"]


def test_a_climb_is_searched_by_name_and_its_winner_polished(trained: Callable[..., Any]) -> None:
    words = (*SEARCH, "--budget", "overhead=40%", "--evaluations", 8)
    answer = trained(*words, "--algorithm", "hill-climbing", "--polish", 20, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["evaluations"] == {"hill-climbing": 8, "random": 8}
    winner, polished = found["winners"][0], found["baselines"][0]
    assert polished["name"] == "winner polished"
    for name in ("configuration", "mode", "predicted"):
        assert polished[name] == winner[name]
    assert polished["val_loss"] < winner["val_loss"]
    adapter = Path(found["polished"])
    assert adapter == Path("run/front-polished")
    assert read_peft(adapter, open_model(MODEL).shape).by_path == winner["configuration"]["ranks"]
    assert f"{adapter} is of an earlier search; further training of the winner replaces it" in trained(*words).err


def test_a_budget_nothing_meets_is_answered_with_the_smallest_reachable(trained: Callable[..., Any]) -> None:
    answer = trained(*SEARCH, "--budget", "decode=0.001ms", "-o", "front.json", "--json")
    assert answer.code == 1
    assert "smallest" in answer.err
    assert answer.json["error"] in answer.err
    assert not Path("front.json").exists()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("decode", "must read QUANTITY=VALUE"),
        ("decode@99=3ms", "length 99 is outside the fitted lengths, 64; profile that length and fit again; or write"),
        ("p90(decode)=3ms", "the predictor is of latency; measure and fit p90, or give a budget of latency"),
    ],
)
def test_budgets_that_cannot_be_are_refused(trained: Callable[..., Any], budget: str, message: str) -> None:
    answer = trained(*SEARCH, "--budget", budget)
    assert answer.code == 2
    assert message in answer.err


def test_another_predictor_in_the_same_place_is_not_taken_for_that_of_the_search(trained: Callable[..., Any]) -> None:
    predictor = Path("predictor-decode.json")
    predictor.write_text(json.dumps({**json.loads(predictor.read_text()), "base_values": {"64": 1.0}}))
    answer = trained("verify", "run/front.json")
    assert answer.code == 2
    assert "predictor-decode is not the predictor of this search any more" in answer.err


def test_a_front_of_another_device_than_its_predictor_is_verified_nowhere(trained: Callable[..., Any]) -> None:
    front = Path("run/front.json")
    content = json.loads(front.read_text())
    content["place"]["device"] = "toaster"
    front.write_text(json.dumps(content))
    answer = trained("verify", front)
    assert answer.code == 2
    assert "is of device 'toaster', and its predictor of 'simulated" in answer.err


@pytest.mark.usefixtures("without_card")
def test_a_predictor_of_another_model_with_the_same_linears_is_refused(
    trained: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    config = json.loads(open_model(MODEL, cache=model_cache).shape.config)
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 2 * config["vocab_size"]}))
    other = (*DEVICE, "--store", "other.db")
    assert trained("profile", tmp_path / "config.json", *other, "--space", "sites", "--count", 10).code == 0
    assert trained("fit", *other, "-o", "other").code == 0
    answer = trained("search", "run", "--predictor", "other", "--budget", "overhead=40%", "--evaluations", 6)
    assert answer.code == 2
    assert "the base model is a" in answer.err
    assert "profile and fit this model" in answer.err


def test_data_that_changed_after_training_is_noticed(
    trained: Callable[..., Any], model_cache: Path, data: Path
) -> None:
    options = ("--data", data, "--held-out", 8, "--cache", model_cache)
    assert trained(*TRAIN, "-o", "again", *options).code == 0
    lines = data.read_text().splitlines()
    data.write_text("\n".join(lines[::-1][:-1]))
    answer = trained("search", "again", "--predictor", "predictor-decode", "--budget", "overhead=40%")
    assert answer.code == 2
    assert "was trained on other examples than its data gives now" in answer.err


def test_training_again_goes_on_and_not_anew(run: Callable[..., Any], model_cache: Path, data: Path) -> None:
    words = (
        "train",
        MODEL,
        "-o",
        "run",
        "--steps",
        4,
        "--data",
        data,
        "--held-out",
        8,
        "--cache",
        model_cache,
        "--json",
    )
    first, again = run(*words), run(*words)
    assert first.json["full_loss"] == again.json["full_loss"]
    other = run(*words[:4], "--steps", 5, *words[6:])
    assert other.code == 2
    assert "holds a training with steps 4, not 5" in other.err


def test_overhead_of_a_peft_folder(trained: Callable[..., Any], model_cache: Path) -> None:
    trained("export", "run/front.json", "-o", "adapter")
    answer = trained("overhead", MODEL, "adapter", *DEVICE, "--cache", model_cache, "--openings", 1, "--json")
    rows = {(row["phase"], row["mode"]): row for row in answer.json["rows"]}
    assert {row["verdict"] for row in rows.values()} == {"ambiguous"}  # one opening
    for mode in ("swappable", "merged"):
        assert rows["decode", mode]["sites"] == len(
            json.loads(Path("run/front.json").read_text())["winners"][0]["configuration"]["ranks"]
        )


@pytest.mark.slow
def test_a_merged_export_is_a_plain_model(trained: Callable[..., Any]) -> None:
    assert trained("export", "run/front.json", "--to", "merged", "-o", "merged").code == 0
    assert trained("overhead", "merged", *DEVICE, "--rank", 2, "--openings", 1).code == 0


def test_a_predictor_of_another_device_is_refused(trained: Callable[..., Any]) -> None:
    Path("ranks.json").write_text('{"model.layers.0.self_attn.q_proj": 4}')
    assert trained("predict", "predictor-decode", "ranks.json", *DEVICE).code == 0
    answer = trained("predict", "predictor-decode", "ranks.json", "--device", "simulated:launch_s=1e-5")
    assert answer.code == 2
    assert "another device" in answer.err
