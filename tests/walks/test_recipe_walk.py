"""A recipe of another package, from its name on the command line to the prepared base that later commands load."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from typer.testing import CliRunner

from adaptare.app import app
from adaptare.core import InputError
from adaptare.search import CompletionLoss, load_base
from adaptare.workflows.train.adaptation import reload_adaptation

Run = Callable[..., Any]
TRAIN = ("train", "tiny-random", "-o", "run", "--data", "data.jsonl", "--steps", "2", "--held-out", "6")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs commands in a folder with examples, where the recipe is installed."""
    folder = tmp_path_factory.mktemp("walk")
    rows = [{"prompt": f"{a}+{b}", "completion": str(a + b)} for a in range(8) for b in range(8)]
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed(folder / "packages", "adaptare.recipes", "trimmed = toy_recipe:TRIMMED"))
        patch.chdir(folder)

        def call(*words: str) -> Any:
            patch.setattr("sys.argv", ["adaptare", *words])
            return CliRunner().invoke(app, words)

        yield call


@pytest.fixture(scope="module")
def trained(run: Run) -> Any:
    """What the command said that trained the folder `run`."""
    done = run(*TRAIN, "--recipe", "trimmed", "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def zeros(model: Any) -> float:
    """Share of zeros among the weights that the recipe trims."""
    weights = torch.cat([layer.mlp.up_proj.weight.flatten() for layer in model.model.layers])
    return float((weights == 0).float().mean())


def test_its_prepared_base_is_trained_on_saved_and_loaded_again(trained: Any) -> None:
    assert trained["recipe"] == "trimmed"
    assert trained["start_loss"] == trained["full_loss"], "the recipe starts with the largest"
    adaptation, super_adapter = reload_adaptation(Path("run"))
    assert adaptation.base == Path("run/base").resolve()
    assert adaptation.base_name == str(adaptation.base)
    assert {site.kind for site in super_adapter.space.sites} == {"q_proj", "v_proj"}
    assert {each.choices for each in super_adapter.space.axes} == {(0, 2, 8)}
    loss = CompletionLoss(super_adapter, adaptation.examples.validation)
    assert loss(super_adapter.largest[None])[0] == pytest.approx(trained["full_loss"], rel=1e-6)
    super_adapter.remove()
    original, _ = load_base(adaptation.task.model)
    assert zeros(original) == 0
    assert 0.2 < zeros(adaptation.model) < 0.5


@pytest.mark.usefixtures("trained")
def test_its_base_is_prepared_once_and_by_no_other_recipe(run: Run) -> None:
    before = Path("run/base/config.json").stat().st_mtime_ns
    assert run(*TRAIN, "--recipe", "trimmed").exit_code == 0
    assert Path("run/base/config.json").stat().st_mtime_ns == before
    other = run(*TRAIN)
    assert other.exit_code == 2
    assert "recipe 'trimmed', not 'placement'" in other.stderr


@pytest.mark.usefixtures("trained")
def test_a_folder_without_its_prepared_base_is_refused() -> None:
    shutil.copytree("run", "without", ignore=shutil.ignore_patterns("base"))
    with pytest.raises(InputError, match=r"lacks the base that the recipe 'trimmed' prepared: there is no .*; train"):
        reload_adaptation(Path("without"))


def test_it_is_listed_after_the_default_with_what_it_needs_and_gives(run: Run) -> None:
    found = json.loads(run("recipes", "--json").stdout)["recipes"]
    assert found[0]["name"] == "placement"
    (trimmed,) = [each for each in found if each["name"] == "trimmed"]
    assert (trimmed["needs"], trimmed["gives"]) == ("training examples", "an adapter on a base with zeros")
    assert trimmed["prepares_base"]
    assert "trimmed" in run("recipes").stdout


def test_ranks_and_space_on_the_command_line_replace_those_of_the_recipe(run: Run) -> None:
    words = (*TRAIN, "--recipe", "trimmed", "--rank", "0,4", "--space", "layers", "-o", "other")
    assert run(*words).exit_code == 0
    _, super_adapter = reload_adaptation(Path("other"))
    assert {each.choices for each in super_adapter.space.axes} == {(0, 4)}
    assert "down_proj" in {site.kind for site in super_adapter.space.sites}
