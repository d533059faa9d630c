"""Held-out loss, zeros, latency and training cost of the recipes, and of three ways to 4-bit weights.

python benchmarks/recipes.py --data FOLDER [--json] [--only PART ...] [--folder WORK] [--model smollm2-135m]
    [--steps 60] [--rows 300] [--evaluations 20] [--seconds 30] [--rate 5e-4] [--bf16]
    [--int4] [--seed 0]

FOLDER holds `gsm8k/train.jsonl` and `gsm8k/test.jsonl` with `question` and `answer`. Parts are the recipes and `int4`.
Each part is kept in WORK once it is done; later calls with the same options take it from there. A training that was cut
off goes on from its last checkpoint.

A recipe: loss on the same held-out rows of its smallest, starting, searched and largest configuration, of the base, and
of a plain LoRA of the largest rank on the same linears of that base, at full width, trained for as many steps; each has
a 95 % interval, and that of its difference from the plain LoRA on the same rows. The search sees other rows. `constant`
ignores every prompt and knows the frequencies of tokens: a task where a plain LoRA is not better than that is refused.
Recipes with widths are searched for the lowest loss with no more neurons than the start, and have the start without
training as well. `merged` are losses of the weights that a merge writes, in floating point or in the codes of the base;
`requantised` are those of a dense model merged and then rounded to 4 bits. Latency is that of the start, and of the
searched widths: adapters apart, and merged, on three devices. Time and memory of steps are beside those of PEFT.

`int4`: on the dense base of 4-bit weights, over ranks, half of the steps or all, and block sizes: the adapter apart,
merged and quantised again, and trained for the grid and merged into codes. Latency is that of each rank in blocks of
32, the only ones that adaptare exports. `elapsed_s` is what each part took.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recipe_latency import DEVICES, INT4_DEVICE, INT4_RANKS, ends, latency_rows, uniform_configs
from recipe_tasks import TOKENS, check_signal, read_task

from adaptare.core import InputError
from adaptare.profiler import WIDTH, Configuration, Space, open_model
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import (
    CompletionLoss,
    Limit,
    SuperAdapter,
    TrainingSettings,
    load_base,
    search,
    train_super_adapter,
)
from adaptare.search.algorithms.algorithm import STAGED, algorithm_named
from adaptare.search.recipes.recipe import Recipe, recipe_named
from adaptare.search.super_adapter.base_model import Origin, keep_masters, original, round_base
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.merging import dense, fills_zeros, merged_weights, requantised, share_of_zeros
from adaptare.search.super_adapter.quantised import QuantisedElasticLinear
from adaptare.search.training import constant_losses
from adaptare.search.training.quality import paired_difference
from adaptare.search.training.step import TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample

RECIPES = ("shears", "sqft-sparse", "sqft", "sqft-sparsepeft", "sqft-qa-sparsepeft", "lonas", "subnet")
PARTS = (*RECIPES, "int4")
BATCH = 8
SEARCH_ROWS = 64
SETTINGS = ("model", "steps", "rows", "evaluations", "seconds", "rate", "bf16", "seed", "int4")
Rows = Sequence[TokenExample]
Codes = NDArray[np.int64]
Losses = NDArray[np.float64]


class CoarseElasticLinear(QuantisedElasticLinear):
    """A scale for each block of 128 inputs."""

    block = 128


class Bench:
    """Model, examples and options that all parts share.

    Args:
        options: Arguments of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.folder
        self.plain: dict[str, Losses] = {}
        self.suffix = "-bf16" * options.bf16 + "-int4" * options.int4 + f"-seed-{options.seed}" * bool(options.seed)
        self.source = open_model(options.model)
        self.dense = self.source.weights_folder()
        _, tokenizer = load_base(self.dense)
        self.train, validation, self.held_out = read_task(options.data, tokenizer, options.rows, options.seed)
        self.validation = validation[:SEARCH_ROWS]
        self.constant = constant_losses(self.train, self.held_out, vocabulary=self.source.shape.vocabulary)
        if len(self.held_out) < options.rows:
            note(f"{len(self.held_out)} held-out rows of at most {TOKENS} tokens, fewer than --rows {options.rows}")

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

    def trained(self, recipe: Recipe, space: Space, name: str, *, steps: int, block: int = 32) -> SuperAdapter:
        """A super-adapter trained, or loaded if it was trained before."""
        model, _ = load_base(self.base_of(recipe))
        if recipe.layer.on_grid:
            keep_masters(model)
        round_base(model, recipe.quantisation(None), block=block)
        seed = self.options.seed
        made = SuperAdapter(model, space, alpha=recipe.alpha, seed=seed, layer=recipe.layer)
        made.bf16 = self.options.bf16
        folder = self.folder / f"{name}-{steps}{self.suffix}"
        note(f"training {folder.name}")
        settings = TrainingSettings(
            steps, seed, batch_size=BATCH, learning_rate=self.options.rate, bf16=self.options.bf16, save_every=10
        )
        train_super_adapter(made, self.train, settings, folder=folder, step=recipe.step)
        return made

    def losses(self, super_adapter: SuperAdapter, codes: Codes) -> Losses:
        """Loss summed over the completion of each held-out row, nats. Shape (n_rows,)."""
        return CompletionLoss(super_adapter, self.held_out).sums(codes)

    def latency(
        self, super_adapter: SuperAdapter, configs: Mapping[str, Configuration], devices: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Latency of configurations that fit together, in the modes that exist of their adapters."""
        if not self.options.seconds:
            return []
        note(f"measuring latency of {', '.join(configs)}")
        return latency_rows(
            self.options.model,
            configs,
            apart=super_adapter.layer.separable,
            merged=not any(fills_zeros(super_adapter.sub_adapter(config)) for config in configs.values()),
            devices=devices,
            seconds=self.options.seconds,
            store=self.folder / "latency.db",
        )


@dataclass(frozen=True)
class Neurons:
    """Neurons of all MLPs of a space: an objective."""

    space: Space

    @property
    def name(self) -> str:
        return "neurons"

    def __call__(self, codes: Codes, /) -> Losses:
        widths = [each.kind == WIDTH for each in self.space.dimensions]
        return codes[:, widths].sum(axis=1).astype(np.float64)


def recipe_part(bench: Bench, name: str) -> dict[str, Any]:
    """Everything about one recipe."""
    recipe = recipe_named(name)
    recipe = replace(recipe, quantisations=(recipe.quantisation("int4" if bench.options.int4 else None),))
    space = recipe.space(bench.source.shape, ranks=recipe.ranks)
    plain = plain_losses(bench, recipe, space)
    super_adapter = bench.trained(recipe, space, name, steps=bench.options.steps)
    points = {"minimal": 0 * space.n_choices, "start": recipe.start(space), "maximal": space.highest}
    codes = {each: space.at(row) for each, row in points.items()}
    codes["searched"] = searched(bench, recipe, super_adapter, codes["start"])
    configs = {each: space.decode(row) for each, row in codes.items()}
    losses = {each: bench.losses(super_adapter, row) for each, row in codes.items()}
    losses["untrained"] = bench.losses(super_adapter, space.base)
    if WIDTH in space.kinds:
        losses["start, untrained"] = bench.losses(super_adapter, space.encode(configs["start"].without_adapter))
    losses |= {"plain LoRA": plain, "constant": bench.constant}
    for each in ("start", "searched"):
        losses.update(merged_losses(bench, recipe, super_adapter, configs[each], each))
    timed = {each: configs[each] for each in (("start", "searched") if WIDTH in space.kinds else ("start",))}
    return {
        "quantisation": recipe.quantisation(None),
        "rows": len(bench.held_out),
        "losses": described(losses, bench.held_out, beside="plain LoRA"),
        "searched": {"ranks": dict(configs["searched"].ranks), "widths": dict(configs["searched"].by_layer)},
        "weights": {each: weights_of(super_adapter, config) for each, config in configs.items()},
        "latency": bench.latency(super_adapter, timed, DEVICES),
        "steps": {each: step_cost(bench, recipe, *words) for each, words in ((name, ()), ("peft", ("--peft",)))},
    }


def searched(bench: Bench, recipe: Recipe, super_adapter: SuperAdapter, start: Codes) -> Codes:
    """Codes of the lowest loss on the rows for searching, which are not those of the table."""
    space, limits = super_adapter.space, []
    if WIDTH in space.kinds:
        neurons = Neurons(space)
        space, limits = space.at_largest_ranks, [Limit(neurons, float(neurons(start[None])[0]))]
    validation = CompletionLoss(super_adapter, bench.validation)
    name = "nsga2" if recipe.algorithm == STAGED else recipe.algorithm  # the number of evaluations is an option
    note(f"searching by {name}")
    algorithm = algorithm_named(name)(space, seed=bench.options.seed)
    options: dict[str, Any] = {"evaluations": bench.options.evaluations, "seed": bench.options.seed}
    front = search(algorithm, space, [validation], limits, **options)
    best = min(front.history, key=lambda candidate: candidate.values[0])
    return space.encode(best.configuration)


def plain_losses(bench: Bench, recipe: Recipe, space: Space) -> Losses:
    """Losses of a LoRA of the largest rank on all sites of a space, trained alone on the base of a recipe."""
    alone = rank_space("plain", space.shape, [[site.path for site in space.sites]], [[max(recipe.ranks)]])
    plain = replace(recipe, layer=ElasticLinear, step=TrainingStep(UniformSampler()))
    name = f"plain-{bench.base_of(recipe).name}-{recipe.quantisation(None)}"
    super_adapter = bench.trained(plain, alone, name, steps=bench.options.steps)
    key = f"{name}-{bench.options.steps}"
    if key not in bench.plain:  # recipes on one base share it
        bench.plain[key] = bench.losses(super_adapter, super_adapter.largest)
    check_signal(bench.plain[key], bench.constant, bench.held_out)
    return bench.plain[key]


def merged_losses(
    bench: Bench, recipe: Recipe, super_adapter: SuperAdapter, config: Configuration, name: str
) -> dict[str, Losses]:
    """Losses of the weights that a merge writes; of a dense base also rounded to 4 bits after it. None if refused."""
    if fills_zeros(super_adapter.sub_adapter(config)):
        return {}
    base, codes = bench.base_of(recipe), super_adapter.space.encode(config.without_adapter)
    if super_adapter.layer.on_grid:
        return {f"{name}, merged": bench.losses(merged_into_codes(super_adapter, config, base), codes)}
    kinds = {"merged": "none", "requantised": "int4"} if super_adapter.layer.separable else {"merged": "none"}
    return {
        f"{name}, {kind}": bench.losses(requantised(super_adapter, config, base, quantisation), codes)
        for kind, quantisation in kinds.items()
    }


def merged_into_codes(super_adapter: SuperAdapter, config: Configuration, base: Path) -> SuperAdapter:
    """The base of 4 bits with a sub-adapter in its codes, without adapters."""
    merged = dense(original(super_adapter.sub_adapter(config, Origin(base)), "int4"))
    return SuperAdapter(merged, super_adapter.space, seed=0)


def weights_of(super_adapter: SuperAdapter, config: Configuration) -> dict[str, Any]:
    """Parameters of the adapter, and of the base at its widths; zeros that a merge leaves, `None` if refused.

    The head of a rounded base counts, because it shares no weights with the embedding any more.
    """
    parts = config.parts(super_adapter.shape)
    with super_adapter.lifted():
        named = {name.removesuffix(".weight"): each.detach() for name, each in super_adapter.model.named_parameters()}
    base = [each[parts[path].outputs, parts[path].inputs] if path in parts else each for path, each in named.items()]
    adapted = super_adapter.sub_adapter(config)
    merged = None if fills_zeros(adapted) else merged_weights(adapted)
    return {
        "adapter_parameters": config.adapter_parameters(super_adapter.shape),
        "base_parameters": sum(weight.numel() for weight in base),
        "base_nonzero": sum(int((weight != 0).sum()) for weight in base),
        "zeros_after_merge": None if merged is None else share_of_zeros(list(merged.values())),
    }


def int4_part(bench: Bench) -> dict[str, Any]:
    """Three ways to an adapted model of 4-bit weights, on the dense base."""
    sqft = replace(recipe_named("sqft"), prepare=None)
    space = recipe_named("shears").space(bench.source.shape, ranks=INT4_RANKS)
    configs = uniform_configs(space)
    found = []
    for grid in (QuantisedElasticLinear, CoarseElasticLinear):
        block, untrained = grid.block, None
        for steps in (bench.options.steps // 2, bench.options.steps):
            apart = bench.trained(sqft, space, f"int4-apart-{block}", steps=steps, block=block)
            aware = replace(sqft, layer=grid)
            on_grid = bench.trained(aware, space, f"int4-aware-{block}", steps=steps, block=block)
            untrained = bench.losses(apart, space.base) if untrained is None else untrained
            for rank, config in zip(INT4_RANKS, configs.values(), strict=True):
                row, again = space.encode(config), requantised(apart, config, bench.dense, "int4", block=block)
                losses = {
                    "unmerged": bench.losses(apart, row),
                    "requantised": bench.losses(again, space.base),
                    "quantisation-aware": bench.losses(on_grid, row),
                    "untrained": untrained,
                    "constant": bench.constant,
                }
                compared = described(losses, bench.held_out, beside="unmerged")
                found.append({"rank": rank, "steps": steps, "block": block, "losses": compared})
    return {"rows": len(bench.held_out), "table": found, "latency": bench.latency(apart, configs, [INT4_DEVICE])}


def described(losses: Mapping[str, Losses], rows: Rows, *, beside: str) -> dict[str, Any]:
    """Loss per token of each, and its difference from another on the same rows: middle, lower and upper end."""
    tokens = np.array([row.completion_tokens for row in rows])
    return {
        name: {
            "loss": ends(paired_difference(each, np.zeros(len(each)), tokens)),
            "difference": ends(paired_difference(each, losses[beside], tokens)),
        }
        for name, each in losses.items()
    }


def step_cost(bench: Bench, recipe: Recipe, *words: str) -> dict[str, Any]:
    """Seconds and memory of training steps, in a process of its own."""
    script = Path(__file__).with_name("recipe_steps.py")
    counts = ("--batch", str(BATCH), "--tokens", str(TOKENS), "--steps", str(min(3, bench.options.steps)))
    command = [sys.executable, str(script), str(bench.base_of(recipe)), recipe.name, *counts, *words]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return found


def kept(bench: Bench, name: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a part, from its file if that has the same options."""
    file = bench.folder / f"{name}{bench.suffix}.json"
    settings = {each: getattr(bench.options, each) for each in SETTINGS}
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["settings"] == settings:
            return dict(before["found"])
    began = time.monotonic()
    found: dict[str, Any] = {**find(), "threads": torch.get_num_threads(), "elapsed_s": time.monotonic() - began}
    file.write_text(json.dumps({"settings": settings, "found": found}, indent=1), encoding="utf-8")
    return found


def table(found: Mapping[str, Any]) -> str:
    """Losses and latencies as Markdown; each loss with its difference from the plain LoRA, or from the unmerged one."""
    lines = ["| part | of | loss, nats per token | difference |", "|---|---|---|---|"]
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name, part in found.items():
        if name != "int4":
            rows.append((name, part["losses"]))
            continue
        for each in part["table"]:
            title = f"int4, blocks of {each['block']}, rank {each['rank']}, {each['steps']} steps"
            rows.append((title, each["losses"]))
    for name, losses in rows:
        for of, each in losses.items():
            loss, difference = ("{:.3f} [{:.3f}, {:.3f}]".format(*each[key]) for key in ("loss", "difference"))
            lines.append(f"| {name} | {of} | {loss} | {difference} |")
    lines += ["", "| part | of | device | phase | mode | overhead over the base, % |", "|---|---|---|---|---|---|"]
    for name, part in found.items():
        for row in part["latency"]:
            numbers = [100 * end for end in row.get("overhead", ())]
            overhead = row.get("failure") or "{:+.1f} [{:+.1f}, {:+.1f}]".format(*numbers)
            where = " | ".join(row[key] for key in ("of", "device", "phase", "mode"))
            lines.append(f"| {name} | {where} | {overhead} |")
    return "\n".join(lines)


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
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each latency; 0: none")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16; steps are timed in float32")
    parser.add_argument("--seed", type=int, default=0, help="of training and search; examples and bases stay")
    parser.add_argument("--int4", action="store_true", help="train on bases of 4-bit weights; steps are timed without")
    bench = Bench(parser.parse_args())
    bench.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in bench.options.only:
        part = (lambda: int4_part(bench)) if name == "int4" else (lambda name=name: recipe_part(bench, name))
        found[name] = kept(bench, name, part)
    print(json.dumps(found) if bench.options.json else table(found))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
