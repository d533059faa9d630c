"""Held-out loss, zeros, latency and training cost of the recipes on sparse bases, and of three ways to 4-bit weights.

python benchmarks/recipes.py --data FOLDER [--json] [--only PART ...] [--folder WORK] [--model smollm2-135m]
    [--steps 80] [--rows 300] [--evaluations 20] [--seconds 60]

FOLDER holds `ARC-Easy/train.json` and `boolq/train.json` with `instruction`, `input` and `output`. Parts are the
recipes and `int4`. Each part is kept in WORK once it is done; later calls with the same options take it from there. A
training that was cut off goes on from its last checkpoint.

A recipe: loss on the same held-out rows of its smallest, starting, searched and largest configuration, of a plain LoRA
of the largest rank trained for as many steps on the same base, and of the base; each with a 95 % interval, and with
that of its difference from the plain LoRA on the same rows. The search sees other rows. Latency is that of the starting
ranks, apart and merged, on three devices. Time and memory of steps are beside those of PEFT.

`int4`: on the dense base of 4-bit weights, over ranks and half of the steps or all: the adapter apart, merged and
quantised again, and trained for the grid and merged into codes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.profiler import Configuration, ModelShape, Space, open_model
from adaptare.search import CompletionLoss, SuperAdapter, export_peft, load_base, search, train_super_adapter
from adaptare.search.algorithms.algorithm import algorithm_named
from adaptare.search.recipes.recipe import Recipe, recipe_named
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.quantised import QuantisedElasticLinear
from adaptare.search.super_adapter.quantised_base import keep_masters, requantised, round_base
from adaptare.search.super_adapter.zeros import share_of_zeros
from adaptare.search.training.data import Example, split_examples
from adaptare.search.training.paired import paired_difference
from adaptare.search.training.token_examples import TokenExample, tokenize_examples

RECIPES = ("shears", "sqft-sparse", "sqft", "sqft-sparsepeft", "sqft-qa-sparsepeft")
PARTS = (*RECIPES, "int4")
TASKS = ("ARC-Easy", "boolq")
TOKENS, BATCH, RATE = 96, 8, 1e-3
SEARCH_ROWS = 64
DEVICES = ("torch-cpu:threads=1", "ort-cpu:threads=1", "ort-cpu:int4,threads=1")
Rows = Sequence[TokenExample]
Losses = NDArray[np.float64]


class Bench:
    """Model, examples and options that all parts share.

    Args:
        options: Arguments of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.folder
        self.source = open_model(options.model)
        self.dense = self.source.weights_folder()
        _, tokenizer = load_base(self.dense)
        split = split_examples([row for task in TASKS for row in read_rows(options.data / task / "train.json")], seed=0)
        parts = [
            tokenize_examples(part, tokenizer, max_tokens=TOKENS).examples
            for part in (split.train, split.validation, split.test)
        ]
        self.train, self.validation, self.held_out = parts[0], parts[1][:SEARCH_ROWS], parts[2][: options.rows]

    def base_of(self, recipe: Recipe) -> Path:
        """Folder of the base that a recipe prepares; recipes of one preparation share it."""
        if recipe.prepare is None:
            return self.dense
        folder = self.folder / f"base-{recipe.prepare.__name__}"
        if not (folder / "done").exists():
            model, tokenizer = load_base(self.dense)
            recipe.prepare(model, self.train[: recipe.calibration])
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "done").touch()
        return folder

    def trained(self, recipe: Recipe, space: Space, name: str, *, steps: int) -> SuperAdapter:
        """A super-adapter trained, or loaded if it was trained before."""
        model, _ = load_base(self.base_of(recipe))
        if getattr(recipe.layer, "on_grid", False):
            keep_masters(model)
        round_base(model, recipe.quantisation(None))
        made = SuperAdapter(model, space, scaling=recipe.scaling, seed=0, layer=recipe.layer)
        options: dict[str, Any] = {"batch_size": BATCH, "learning_rate": RATE, "seed": 0, "step": recipe.step}
        note(f"training {name}, {steps} steps")
        train_super_adapter(made, self.train, folder=self.folder / name, steps=steps, save_every=10, **options)
        return made


def recipe_part(bench: Bench, name: str) -> dict[str, Any]:
    """Everything about one recipe."""
    recipe = recipe_named(name)
    space = recipe.space(bench.source.shape, ranks=recipe.ranks)
    super_adapter = bench.trained(recipe, space, name, steps=bench.options.steps)
    genes = {
        "minimal": 0 * space.n_choices,
        "start": recipe.start(space),
        "searched": searched(bench, recipe, super_adapter),
        "maximal": space.n_choices - 1,
    }
    codes = {each: space.expand(row[None])[0] for each, row in genes.items()}
    losses = {each: row_losses(super_adapter, row, bench.held_out) for each, row in codes.items()}
    losses["untrained"] = row_losses(super_adapter, 0 * super_adapter.largest, bench.held_out)
    losses["plain LoRA"] = plain_losses(bench, recipe)
    start = space.decode(codes["start"])
    return {
        "quantisation": recipe.quantisation(None),
        "losses": described(losses, bench.held_out, beside="plain LoRA"),
        "searched_ranks": dict(space.decode(codes["searched"]).ranks),
        **weights_of(super_adapter, start),
        "latency": latency(bench, start),
        "steps": {each: step_cost(bench, recipe, each) for each in (name, "peft")},
    }


def searched(bench: Bench, recipe: Recipe, super_adapter: SuperAdapter) -> NDArray[np.int64]:
    """Genes of the lowest loss on the rows for searching, which are not those of the table."""
    space = super_adapter.space
    validation = CompletionLoss(super_adapter, bench.validation)
    note(f"searching by {recipe.algorithm}")
    algorithm = algorithm_named(recipe.algorithm)(space, seed=0)
    front = search(algorithm, space, [validation], [], evaluations=bench.options.evaluations, seed=0)
    best = min(front.history, key=lambda candidate: candidate.values[0]).codes
    choices = [each.choices.index(int(best[each.columns[0]])) for each in space.dimensions]
    return np.array(choices, dtype=np.int64)


def plain_losses(bench: Bench, recipe: Recipe) -> Losses:
    """Losses of a LoRA of the largest rank everywhere, trained alone on the base of a recipe."""
    space = recipe.space(bench.source.shape, ranks=(max(recipe.ranks),))
    plain = replace(recipe, layer=ElasticLinear)
    name = f"plain-{bench.base_of(recipe).name}-{recipe.quantisation(None)}"
    super_adapter = bench.trained(plain, space, name, steps=bench.options.steps)
    return row_losses(super_adapter, super_adapter.largest, bench.held_out)


def weights_of(super_adapter: SuperAdapter, config: Configuration) -> dict[str, Any]:
    """Parameters of the adapter, and of the base that are not zero; zeros that a merge leaves, `None` if refused."""
    model = super_adapter.model
    with super_adapter.lifted():
        base = [weight.detach() for weight in model.parameters()]
    merged = None if super_adapter.fills_zeros(config) else super_adapter.merged(config)
    return {
        "adapter_parameters": sum(A.numel() + B.numel() for A, B in sub_adapter(super_adapter, config)),
        "base_parameters": sum(weight.numel() for weight in base),
        "base_nonzero": sum(int((weight != 0).sum()) for weight in base),
        "zeros_after_merge": None if merged is None else share_of_zeros(list(merged.values())),
    }


def sub_adapter(super_adapter: SuperAdapter, config: Configuration) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A and B at the ranks of a configuration."""
    state = super_adapter.state()
    return [(state[f"{path}.A"][:rank], state[f"{path}.B"][:, :rank]) for path, rank in config.ranks]


def int4_part(bench: Bench) -> list[dict[str, Any]]:
    """Three ways to an adapted model of 4-bit weights, on the dense base."""
    sqft = replace(recipe_named("sqft"), prepare=None)
    aware = replace(sqft, layer=QuantisedElasticLinear)
    ranks = (8, 16, 32)
    found = []
    for steps in (bench.options.steps // 2, bench.options.steps):
        space = recipe_named("shears").space(bench.source.shape, ranks=ranks)
        apart = bench.trained(sqft, space, f"int4-apart-{steps}", steps=steps)
        on_grid = bench.trained(aware, space, f"int4-aware-{steps}", steps=steps)
        for gene, rank in enumerate(ranks):
            codes = space.expand(np.full((1, space.n_dimensions), gene))[0]
            again = requantised(apart, space.decode(codes), bench.dense, "int4")
            losses = {
                "unmerged": row_losses(apart, codes, bench.held_out),
                "requantised": row_losses(again, 0 * codes, bench.held_out),
                "quantisation-aware": row_losses(on_grid, codes, bench.held_out),
                "untrained": row_losses(apart, 0 * codes, bench.held_out),
            }
            compared = described(losses, bench.held_out, beside="unmerged")
            found.append({"rank": rank, "steps": steps, "block": 32, "losses": compared})
    return found


def row_losses(super_adapter: SuperAdapter, codes: NDArray[np.int64], rows: Rows) -> Losses:
    """Loss summed over the completion of each row, nats. Shape (n_rows,)."""
    return CompletionLoss(super_adapter, rows, batch_size=BATCH).sums(codes)


def described(losses: Mapping[str, Losses], rows: Rows, *, beside: str) -> dict[str, Any]:
    """Loss per token of each, and its difference from another on the same rows: middle, lower and upper end."""
    return {
        name: {"loss": ends(each, 0.0, rows), "difference": ends(each, losses[beside], rows)}
        for name, each in losses.items()
    }


def ends(first: Losses, second: Losses | float, rows: Rows) -> list[float]:
    """Difference per token on the same rows: middle, lower and upper end of 95 %."""
    tokens = np.array([row.completion_tokens for row in rows])
    found = paired_difference(first, np.zeros(len(first)) + second, tokens)
    return [found.middle, found.lower, found.upper]


def latency(bench: Bench, config: Configuration) -> dict[str, list[dict[str, Any]]]:
    """Rows of `adaptare overhead` on each device, of an adapter of these ranks; zeros do not change it."""
    if not bench.options.seconds:
        return {}
    model, _ = load_base(bench.dense)
    space = recipe_named("shears").space(ModelShape.from_config(model.config), ranks=(max(config.by_path.values()),))
    place = bench.folder / "adapter"
    export_peft(SuperAdapter(model, space, seed=0), config, place, base_name=None)
    found = {}
    for device in DEVICES:
        words = ["overhead", bench.options.model, str(place), "--device", device, "--resume", "--json"]
        words += ["--seconds", str(bench.options.seconds), "--store", str(bench.folder / "latency.db")]
        found[device] = json.loads(run("-m", "adaptare", *words))["rows"]
    return found


def step_cost(bench: Bench, recipe: Recipe, name: str) -> dict[str, Any]:
    """Seconds and memory of training steps, in a process of its own."""
    script = Path(__file__).with_name("recipe_steps.py")
    words = ("--batch", str(BATCH), "--tokens", str(TOKENS), "--steps", str(min(6, bench.options.steps)))
    found: dict[str, Any] = json.loads(run(str(script), str(bench.base_of(recipe)), name, *words))
    return found


def run(*words: str) -> str:
    """Output of a Python program."""
    return subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def read_rows(file: Path) -> list[Example]:
    """Rows of a file of LLM-Adapters. Exits with 3 if it is missing."""
    if not file.exists():
        print(f"{file} is missing; --data names a folder with {' and '.join(TASKS)}", file=sys.stderr)
        raise SystemExit(3)
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [Example(f"{row['instruction']}\n{row['input']}".strip(), row["output"].strip()) for row in rows]


def kept(bench: Bench, name: str, find: Callable[[], Any]) -> Any:
    """The result of a part, from its file if that has the same options."""
    file = bench.folder / f"{name}.json"
    settings = {each: getattr(bench.options, each) for each in ("model", "steps", "rows", "evaluations", "seconds")}
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["settings"] == settings:
            return before["found"]
    found = find()
    file.write_text(json.dumps({"settings": settings, "found": found}, indent=1), encoding="utf-8")
    return found


def table(found: Mapping[str, Any]) -> str:
    """Losses as Markdown, each with its difference from the plain LoRA of its part, or from the unmerged one."""
    lines = ["| part | of | loss, nats per token | difference |", "|---|---|---|---|"]
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name, part in found.items():
        if name == "int4":
            rows += [(f"int4, rank {each['rank']}, {each['steps']} steps", each["losses"]) for each in part]
        else:
            rows.append((name, part["losses"]))
    for title, losses in rows:
        lines += [
            f"| {title} | {of} | {cell(each['loss'])} | {cell(each['difference'])} |" for of, each in losses.items()
        ]
    return "\n".join(lines)


def cell(found: Sequence[float]) -> str:
    """Middle with its interval."""
    return f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"


def note(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, default=Path("recipes-benchmark"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each latency measurement; 0: none")
    bench = Bench(parser.parse_args())
    bench.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in bench.options.only:
        part = (lambda: int4_part(bench)) if name == "int4" else (lambda name=name: recipe_part(bench, name))
        found[name] = kept(bench, name, part)
    print(json.dumps(found) if bench.options.json else table(found))


if __name__ == "__main__":
    main()
