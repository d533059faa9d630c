"""A recipe of another package, from its name on the command line to the prepared base that later commands load."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from adaptare.app import app
from adaptare.core import InputError
from adaptare.search import CompletionLoss, load_base
from adaptare.workflows.train.adaptation import reload_adaptation

Run = Callable[..., Any]
TRAIN = ("train", "tiny-random", "-o", "run", "--data", "data.jsonl", "--steps", "2", "--held-out", "6")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands in a folder with examples, where the recipe is installed."""
    metadata = tmp_path / "packages" / "toys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[adaptare.recipes]\ntrimmed = toy_recipe:TRIMMED\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{a}+{b}", "completion": str(a + b)} for a in range(8) for b in range(8)]
    Path("data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")

    def call(*words: str) -> Any:
        monkeypatch.setattr("sys.argv", ["adaptare", *words])
        return CliRunner().invoke(app, words)

    return call


def zeros(model: Any) -> float:
    """Share of zeros among the weights that the recipe trims."""
    weights = torch.cat([layer.mlp.up_proj.weight.flatten() for layer in model.model.layers])
    return float((weights == 0).float().mean())


def test_its_prepared_base_is_trained_on_saved_and_loaded_again(run: Run) -> None:
    done = run(*TRAIN, "--recipe", "trimmed", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["recipe"] == "trimmed"
    assert said["start_loss"] == said["full_loss"], "the recipe starts with the largest"
    adaptation, super_adapter = reload_adaptation(Path("run"))
    assert adaptation.base == Path("run/base").resolve()
    assert adaptation.base_name == str(adaptation.base)
    assert {site.kind for site in super_adapter.space.sites} == {"q_proj", "v_proj"}
    assert {each.choices for each in super_adapter.space.axes} == {(0, 2, 8)}
    loss = CompletionLoss(super_adapter, adaptation.examples.validation)
    assert loss(super_adapter.largest[None])[0] == pytest.approx(said["full_loss"], rel=1e-6)
    super_adapter.remove()
    original, _ = load_base(adaptation.task.model)
    assert zeros(original) == 0
    assert 0.2 < zeros(adaptation.model) < 0.5


def test_its_base_is_prepared_once(run: Run) -> None:
    assert run(*TRAIN, "--recipe", "trimmed").exit_code == 0
    before = Path("run/base/config.json").stat().st_mtime_ns
    assert run(*TRAIN, "--recipe", "trimmed").exit_code == 0
    assert Path("run/base/config.json").stat().st_mtime_ns == before


def test_a_folder_without_its_prepared_base_is_refused(run: Run) -> None:
    assert run(*TRAIN, "--recipe", "trimmed").exit_code == 0
    Path("run/base").rename("elsewhere")
    with pytest.raises(InputError, match=r"lacks the base that the recipe 'trimmed' prepared: there is no .*; train"):
        reload_adaptation(Path("run"))


def test_a_folder_of_one_recipe_is_not_trained_by_another(run: Run) -> None:
    assert run(*TRAIN, "--recipe", "trimmed").exit_code == 0
    other = run(*TRAIN)
    assert other.exit_code == 2
    assert "recipe 'trimmed', not 'placement'" in other.stderr


def test_it_is_listed_after_the_default_with_what_it_needs_and_gives(run: Run) -> None:
    found = json.loads(run("recipes", "--json").stdout)["recipes"]
    assert found[0]["name"] == "placement"
    (trimmed,) = [each for each in found if each["name"] == "trimmed"]
    assert (trimmed["needs"], trimmed["gives"]) == ("training examples", "an adapter on a base with zeros")
    assert trimmed["prepares_base"]
    assert "trimmed" in run("recipes").stdout


def test_ranks_and_space_on_the_command_line_replace_those_of_the_recipe(run: Run) -> None:
    words = (*TRAIN, "--recipe", "trimmed", "--rank", "0,4", "--space", "layers")
    assert run(*words).exit_code == 0
    _, super_adapter = reload_adaptation(Path("run"))
    assert {each.choices for each in super_adapter.space.axes} == {(0, 4)}
    assert "down_proj" in {site.kind for site in super_adapter.space.sites}
