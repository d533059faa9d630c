"""`adaptare shrink`: an adapter that PEFT saved, cut to a budget."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from adaptare.profiler import open_model
from adaptare.search import load_base, read_examples, tokenize_split
from adaptare.search.export import folder as export_folders

Run = Callable[..., Any]
MODEL = "tiny-random"
# Calls are nearly free there, so that ranks matter.
DEVICE = ("--device", "simulated:launch_s=1e-7")
MIXED = {
    "r": 8,
    "lora_alpha": 6,
    "use_rslora": True,
    "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"],
    "rank_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 6},
}
pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")


@pytest.fixture(scope="module")
def predictor_once(
    commands_in: Callable[..., Any], model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a predictor of the tiny model on the simulated device."""
    folder = tmp_path_factory.mktemp("predictor")
    with commands_in(folder) as run:
        cache = ("--cache", model_cache)
        assert run("profile", MODEL, *DEVICE, *cache, "--space", "sites", "--count", 16).code == 0
        assert run("fit", *DEVICE).code == 0
    return folder


@pytest.fixture
def shrink(run_in_copy: Callable[..., Run], predictor_once: Path, model_cache: Path) -> Run:
    run = run_in_copy(predictor_once)
    words = ("--base", MODEL, "--predictor", "predictor-decode", "--cache", model_cache)

    def call(adapter: Path, *others: object, budget: str = "overhead=10%") -> Any:
        return run("shrink", adapter, *words, "--budget", budget, "-o", "small", *others)

    return call


def cuts(answer: Any) -> list[dict[str, Any]]:
    """Rows of the original, of the adapter that was written, and of the others."""
    original, *others = answer.json["baselines"]
    return [original, *answer.json["winners"], *others]


def ranks_in(folder: Path) -> dict[str, int]:
    """Ranks of the weights in a PEFT folder."""
    tensors = load_file(folder / "adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(half)
        for name, half in tensors.items()
        if "lora_A" in name
    }


def weights(model_cache: Path) -> Path:
    return open_model(MODEL, cache=model_cache).weights_folder()


def logits_in_peft(folder: Path, model_cache: Path, ids: Sequence[int] = range(20)) -> torch.Tensor:
    from peft import PeftModel

    base, _ = load_base(weights(model_cache))
    with torch.no_grad():
        found: torch.Tensor = PeftModel.from_pretrained(base, str(folder)).eval()(torch.tensor([list(ids)])).logits
    return found


def logits_of_dense(folder: Path, ranks: dict[str, int], model_cache: Path) -> torch.Tensor:
    """The base with every update of an adapter decomposed and truncated, and added to its weights."""
    from peft import PeftModel

    base, _ = load_base(weights(model_cache))
    loaded = PeftModel.from_pretrained(base, str(folder))
    with torch.no_grad():
        updates = {
            path: loaded.base_model.model.get_submodule(path).get_delta_weight("default").double() for path in ranks
        }
        model, _ = load_base(weights(model_cache))
        for path, update in updates.items():
            U, S, V = torch.linalg.svd(update, full_matrices=False)
            rank = ranks[path]
            model.get_submodule(path).weight += (U[:, :rank] * S[:rank] @ V[:rank]).float()
        found: torch.Tensor = model(torch.arange(20)[None]).logits
    return found


@pytest.mark.slow
def test_without_data_stock_peft_loads_the_best_slices(
    shrink: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    adapter = saved(**MIXED)
    answer = shrink(adapter, "--json")
    assert answer.code == 0, answer.err
    original, shrunk, *others = cuts(answer)
    ranks = ranks_in(Path("small"))
    assert ranks == shrunk["configuration"]["ranks"]
    assert original["configuration"]["ranks"] == ranks_in(adapter)
    assert original["predicted"]["upper"] > answer.json["limit"] >= shrunk["predicted"]["upper"]
    assert all(rank <= original["configuration"]["ranks"][path] for path, rank in ranks.items())
    dense = logits_of_dense(adapter, ranks, model_cache)
    assert (logits_in_peft(Path("small"), model_cache) - dense).abs().max() < 1e-4
    assert (dense - logits_in_peft(adapter, model_cache)).abs().max() > 1e-2
    assert original["energy_lost"] == 0
    assert "first rows, same ranks" in {each["name"] for each in others}
    assert all(each["predicted"]["middle"] <= shrunk["predicted"]["middle"] for each in others)
    # Sites that keep all of their ranks compute the same in either basis, but for rounding.
    assert any(each["name"].startswith("first") for each in others)
    assert all(shrunk["energy_lost"] <= each["energy_lost"] * (1 + 1e-6) for each in others)
    assert {each["test_loss"] for each in cuts(answer)} == {None}
    assert "the most energy was kept; --data FILE" in answer.err
    assert json.loads(Path("small/shrink.json").read_text())["winners"] == answer.json["winners"]


def test_a_budget_that_the_whole_meets_keeps_all_of_it(
    shrink: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    adapter = saved(**MIXED)
    answer = shrink(adapter / "adapter_config.json", "--json", budget="overhead=900%")
    assert answer.code == 0, answer.err
    names = [each["name"] for each in cuts(answer)]
    assert names == ["original", "shrunk", "uniform 8", "first rows, same ranks", "first 8 rows"]
    assert "the original is predicted to meet this budget as it is" in answer.err
    assert ranks_in(Path("small")) == ranks_in(adapter)
    whole, again = (logits_in_peft(folder, model_cache) for folder in (adapter, Path("small")))
    assert (whole - again).abs().max() <= 1e-4


def test_with_data_losses_are_those_of_what_was_written(
    shrink: Run, saved: Callable[..., Path], data: Path, model_cache: Path
) -> None:
    answer = shrink(
        saved(**MIXED), "--data", data, "--held-out", 8, "--evaluations", 40, "--json", budget="overhead=14%"
    )
    assert answer.code == 0, answer.err
    original, shrunk, *others = cuts(answer)
    # 8 starts, 3 sets of kinds, one that these shrank to, and a uniform rank. Latency decides which are equal.
    assert answer.json["evaluations"] in [{"staged-fisher": count} for count in (12, 13)]
    assert shrunk["predicted"]["upper"] <= answer.json["limit"] < original["predicted"]["upper"]
    assert {each["name"] for each in others} >= {"first rows, same ranks"}
    split = tokenize_split(read_examples(data), load_base(weights(model_cache))[1], seed=0)
    for part, reported in ((split.validation, shrunk["val_loss"]), (split.test, shrunk["test_loss"])):
        found = []
        for example in part[:8]:
            chances = logits_in_peft(Path("small"), model_cache, example.ids)[0].log_softmax(-1)
            places = range(example.prompt_tokens, len(example.ids))
            found += [-float(chances[place - 1, example.ids[place]]) for place in places]
        assert np.mean(found) == pytest.approx(reported, abs=1e-4)


def test_polishing_trains_only_what_was_kept_and_its_record_comes_with_the_adapter(
    shrink: Run, saved: Callable[..., Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, records = export_folders.replace_folder, []

    def seen(fresh: Path, target: Path, *, aside: Path) -> None:
        records.append(json.loads((fresh / "shrink.json").read_text()))
        swap(fresh, target, aside=aside)

    monkeypatch.setattr(export_folders, "replace_folder", seen)
    words = ("--data", data, "--held-out", 8, "--evaluations", 12, "--json")
    answer = shrink(saved(**MIXED), *words, "--polish", 30)
    assert answer.code == 0, answer.err
    _, polished, shrunk, *_ = cuts(answer)
    assert (polished["name"], shrunk["name"]) == ("polished", "shrunk")
    assert polished["configuration"]["ranks"] == shrunk["configuration"]["ranks"] == ranks_in(Path("small"))
    assert polished["val_loss"] < shrunk["val_loss"]
    assert polished["predicted"]["middle"] == shrunk["predicted"]["middle"]
    assert records == [json.loads(Path("small/shrink.json").read_text())]
    assert records[0]["winners"] == answer.json["winners"]


def test_tables_are_for_people(shrink: Run, saved: Callable[..., Path]) -> None:
    answer = shrink(saved(**MIXED))
    assert "Budget overhead=10%" in answer.out
    assert "shrunk" in answer.out
    assert "original" in answer.out
    assert "next: adaptare overhead tiny-random small --device simulated:launch_s=1e-07 -p 0 -d 64" in answer.out


def test_an_infeasible_budget_is_answered_with_the_smallest_reachable(shrink: Run, saved: Callable[..., Path]) -> None:
    answer = shrink(saved(**MIXED), "--json", budget="decode=0.001ms")
    assert answer.code == 1
    assert "the smallest reachable is" in answer.json["error"]
    assert not Path("small").exists()


def damaged(folder: Path, damage: Callable[[dict[str, np.ndarray]], None]) -> Path:
    tensors = load_file(folder / "adapter_model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def without_b(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor[:] = 0


def of_another_width(tensors: dict[str, np.ndarray]) -> None:
    for name in [name for name in tensors if "lora_A" in name]:
        tensors[name] = np.ones((tensors[name].shape[0], 7), np.float32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_b, "the adapter changes nothing: every B is zero; train it first"),
        (of_another_width, "is an adapter of another base model"),
    ],
)
def test_weights_that_cannot_be_cut_are_refused(
    shrink: Run, saved: Callable[..., Path], damage: Callable[[dict[str, np.ndarray]], None], message: str
) -> None:
    answer = shrink(damaged(saved(**MIXED), damage))
    assert answer.code == 2
    assert message in answer.err
    assert not Path("small").exists()


def test_what_else_does_not_fit_has_a_message_of_its_own(
    shrink: Run, saved: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = saved(**MIXED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    for words, message in (
        (("--polish", 5), "5 steps of training need examples, and there are none; give data"),
        (("--quantise", "int4"), "the predictor is of a base with quantisation none, and this one has int4"),
        (("-o", "mine"), "'mine' exists and is no earlier export"),
    ):
        answer = shrink(adapter, *words)
        assert answer.code == 2, words
        assert message in answer.err
    assert "the predictor is of decode" in shrink(adapter, budget="prefill=3ms").err
    assert "is a DoRA; merge it with PEFT's merge_and_unload" in shrink(saved("dora", use_dora=True)).err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
