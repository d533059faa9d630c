"""Models faster than their base: latency of winners under a budget below the base, and their loss beside simpler cuts.

python benchmarks/below_base.py [--json] [--folder FOLDER] [--model smollm2-135m] [--data FILE]
    [--device ort-cpu:int4,threads=1] [--budget=-15%] [--phases decode prefill] [--steps 150] [--count 24]
    [--evaluations 80] [--seconds 240] [--held-out 300] [--bf16]
    [--space subnet-depth] [--depths 24]

The recipe `subnet` is trained once (`adaptare train`). For each phase, narrower models are profiled and a predictor is
fitted, the budget is searched by NSGA-II, and winners and baselines are measured (`adaptare profile`, `fit`, `search`,
`verify`). Two choices are reported: the winner of the lowest loss, and the uniform cut of the lowest loss (layers of
one width, maybe fewer of them), among those whose measured overhead has its upper end within the budget. Both are
exported for ONNX Runtime, those of one width for transformers as well, and loaded.

Losses are nats per completion token of test examples that guided no choice, of the weights as they are deployed: merged
and quantised again. Beside each choice, at the same widths: cut without training, in the order by activations, by
magnitude and of the base itself; and plain LoRA on the cut model, as many optimiser steps, in the first order and, at a
uniform width, by magnitude. A sandwich step has four forward and backward passes and a plain one has one: `passes` has
the numbers. Intervals are 95 % bootstrap intervals over examples; `difference` is to the choice, paired, and
`beside_uniform` is that of the winner to the uniform cut.

`depths` are models with whole layers left out instead, by block influence: latency in both phases, and loss of those
cut without training and of plain LoRA on them; `difference` is to the base.

Every part keeps its result in the folder, and the same command goes on with what is missing.
"""

import argparse
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stock_process import conditions, say

LENGTHS = {"decode": ("-d", "64"), "prefill": ("-p", "64")}
DRAWS = 2000
Losses = NDArray[np.float64]


def main() -> None:
    options = parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("json", "phases", "depths")}
    if (before := kept(options.folder / "options.json", lambda: settings)) != settings:
        raise SystemExit(f"{options.folder} has results of other options: {before}; name another --folder")
    began = time.monotonic()
    kept(options.folder / "train.json", lambda: train(options))
    phases = {phase: of_phase(options, phase) for phase in options.phases}
    depths = kept(options.folder / "depths.json", lambda: of_depths(options)) if options.depths else {}
    result = {**conditions(1), "model": options.model, "device": options.device, "phases": phases, "depths": depths}
    result["elapsed_s"] = time.monotonic() - began
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, default=Path("below-base"))
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--data", type=Path)
    found.add_argument("--device", default="ort-cpu:int4,threads=1")
    found.add_argument("--budget", default="-15%")
    found.add_argument("--phases", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    found.add_argument("--steps", type=int, default=150)
    found.add_argument("--count", type=int, default=24, help="narrower models to profile, in each phase")
    found.add_argument("--evaluations", type=int, default=80)
    found.add_argument("--seconds", type=float, default=240.0, help="of a profile and of a verification")
    found.add_argument("--held-out", type=int, default=300)
    found.add_argument("--space", default="subnet-depth", help="space of the recipe; subnet has no depth")
    found.add_argument("--depths", type=int, nargs="*", default=[24], help="numbers of layers to keep")
    found.add_argument("--bf16", action="store_true", help="train in bfloat16, the recipe and its baselines")
    return found


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """Content of a JSON file, which is made and written if it is missing."""
    if not file.exists():
        file.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def command(*words: object, codes: tuple[int, ...] = (0,)) -> Any:
    """What a command of adaptare prints as JSON."""
    say(f"adaptare {' '.join(map(str, words))}")
    done = subprocess.run(
        [sys.executable, "-m", "adaptare", *map(str, words), "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in codes:
        raise SystemExit(f"adaptare {words[0]} ended with {done.returncode}; the same command goes on from here")
    return json.loads(done.stdout)


def quantisation_of(options: argparse.Namespace) -> str:
    """Weights of the device."""
    return next((each for each in ("int4", "int8") if f":{each}" in options.device), "none")


def measured_in(options: argparse.Namespace, phase: str) -> tuple[object, ...]:
    """Options of the commands that measure merged models in a phase."""
    mode = "merged" if quantisation_of(options) == "none" else "requantised"
    return "--device", options.device, "--store", options.folder / "store.db", *LENGTHS[phase], "--mode", mode


def train(options: argparse.Namespace) -> Any:
    """Trains the recipe."""
    words = ["train", options.model, "--recipe", "subnet", "--space", options.space]
    words += ["--steps", options.steps, "--held-out", options.held_out]
    words += ["--quantise", quantisation_of(options), "-o", options.folder / "run"]
    words += ["--bf16"] if options.bf16 else []
    return command(*words, *(["--data", options.data] if options.data else []))


def of_phase(options: argparse.Namespace, phase: str) -> dict[str, Any]:
    """Choices within the budget in one phase."""
    folder, seconds = options.folder, ("--seconds", options.seconds)
    measured = measured_in(options, phase)
    profile = ("profile", options.model, *measured, "--space", options.space, "--count", options.count)
    kept(folder / f"profile-{phase}.json", lambda: command(*profile, *seconds))
    predictor, front = folder / f"predictor-{phase}", folder / f"front-{phase}.json"
    kept(folder / f"fit-{phase}.json", lambda: command("fit", *measured, "-o", predictor))
    search = ("search", folder / "run", "--predictor", predictor, "--budget", f"{phase}={options.budget}", "-o", front)
    effort = ("--algorithm", "nsga2", "--evaluations", options.evaluations)
    kept(folder / f"search-{phase}.json", lambda: command(*search, *effort))
    verify = ("verify", front, "--store", folder / "store.db", *seconds)
    verified = kept(folder / f"verify-{phase}.json", lambda: command(*verify, codes=(0, 1, 4)))
    limit = float(options.budget.removesuffix("%")) / 100
    uniform = [row for row in verified["baselines"] if " width " in row["name"] or row["name"].endswith(" layers")]
    found = {}
    for name, rows in (("winner", verified["winners"]), ("uniform", uniform)):
        within = [row for row in rows if row["measured"]["value"] and row["measured"]["overhead"]["upper"] <= limit]
        best = min(within, key=lambda row: float(row["val_loss"]), default=None)
        file = folder / f"{name}-{phase}.json"
        found[name] = (
            kept(file, lambda best=best, name=name: evaluated(options, best, f"{name}-{phase}")) if best else None
        )
    if old := [name for name, choice in found.items() if choice and "samples" not in choice]:
        raise SystemExit(
            f"{folder}/{old[0]}-{phase}.json must have the losses of its examples; remove it, and start again"
        )
    samples = {name: np.array(choice.pop("samples")) for name, choice in found.items() if choice}
    if len(samples) == 2:
        found["winner"]["beside_uniform"] = summary(samples["winner"], samples["uniform"])
    return found


def evaluated(options: argparse.Namespace, row: Mapping[str, Any], choice: str) -> dict[str, Any]:
    """Latency, exports, and losses of a choice beside those of simpler cuts."""
    from adaptare.core.codec import from_json
    from adaptare.profiler import Configuration
    from adaptare.workflows.train.adaptation import reload_adaptation

    adaptation, super_adapter = reload_adaptation(options.folder / "run")
    config = from_json(Configuration, row["configuration"])
    samples = dict(losses_of(options, adaptation, super_adapter, config))
    passes = {"recipe": 4 * options.steps, "plain": options.steps}
    overhead = row["measured"]["overhead"]
    return {
        "name": row["name"],
        "overhead": overhead["middle"],
        "overhead_lower": overhead["lower"],
        "overhead_upper": overhead["upper"],
        "measured_s": row["measured"]["value"]["middle"],
        "widths": widths_of(config, super_adapter.shape),
        "passes": passes,
        "losses": [
            {"cut": cut, "passes": passes.get(cut.split()[0], 0), **summary(found, samples["recipe"])}
            for cut, found in samples.items()
        ],
        "exports": exported(options.folder / choice, adaptation, super_adapter, config),
        "samples": samples["recipe"].tolist(),
    }


def of_depths(options: argparse.Namespace) -> dict[str, Any]:
    """Latency and losses of models with fewer layers, beside the base."""
    from adaptare.profiler import Configuration
    from adaptare.profiler.workloads.space_file import grouped_space
    from adaptare.workflows.train.adaptation import reload_adaptation, with_layer_order

    adaptation, super_adapter = reload_adaptation(options.folder / "run")
    file, depths = options.folder / "depths.yaml", [*options.depths, super_adapter.shape.layers]
    file.write_text(f"groups:\n- {{sites: '*', ranks: [32], tie: all}}\n- {{depth: {depths}}}\n")
    count, seconds = ("--count", len(depths)), ("--seconds", options.seconds)
    latency = {
        phase: command("profile", options.model, *measured_in(options, phase), "--space", file, *count, *seconds)
        for phase in options.phases
    }
    samples = {"base": deployed(adaptation, super_adapter, Configuration(), Path(adaptation.task.model))}
    for depth in options.depths:
        groups = [{"sites": "*", "ranks": [32], "tie": "all"}, {"depth": [depth]}]
        space = with_layer_order(grouped_space("depth", groups, super_adapter.shape), adaptation.base)
        config = space.decode(space.at(space.highest))
        adapted = plain(options, adaptation, super_adapter, space, base=adaptation.base, name=f"depth-{depth}")
        for cut, applied in (("untrained", config.without_adapter), ("plain LoRA", config)):
            samples[f"{cut}, {depth} layers"] = deployed(adaptation, adapted, applied, adaptation.base)
    losses = [{"cut": cut, **summary(found, samples["base"])} for cut, found in samples.items()]
    return {"latency": latency, "losses": losses}


def widths_of(config: Any, shape: Any) -> list[int]:
    """Widths of the layers that are kept, ascending."""
    return sorted(config.by_layer.get(layer, shape.intermediate) for layer in config.kept(shape.layers))


def losses_of(
    options: argparse.Namespace, adaptation: Any, super_adapter: Any, config: Any
) -> Iterator[tuple[str, Losses]]:
    """Name of each cut, and the losses of its examples."""
    from adaptare.profiler import Configuration

    whole = super_adapter.space.decode(super_adapter.largest)
    by_activations, own = adaptation.base, Path(adaptation.task.model)
    by_magnitude = magnitude_base(options.folder / "magnitude", own)
    yield "base", deployed(adaptation, super_adapter, Configuration(), own)
    yield "whole", deployed(adaptation, super_adapter, whole, by_activations)
    yield "recipe", deployed(adaptation, super_adapter, config, by_activations)
    orders = {"activations": by_activations, "magnitude": by_magnitude, "base's": own}
    for order, base in orders.items():
        yield f"untrained, {order} order", deployed(adaptation, super_adapter, config.without_adapter, base)
    cut = only(super_adapter.space, config)
    uniform = len(set(widths_of(config, super_adapter.shape))) == 1
    for order in ("activations", "magnitude") if uniform else ("activations",):
        name = f"{order}-{zlib.crc32(repr((tuple(config.by_layer.items()), config.left_out)).encode()):08x}"
        adapted = plain(options, adaptation, super_adapter, cut, base=orders[order], name=name)
        yield f"plain LoRA, {order} order", deployed(adaptation, adapted, config, orders[order])


def only(space: Any, config: Any) -> Any:
    """The space with one configuration. Layers that are left out say nothing of ranks and widths that are tied."""
    values = dict(zip(space.dimensions, space.encode(config).tolist(), strict=True))
    layers = config.kept(space.shape.layers)

    def number(axis: Any) -> int:
        if axis.kind.presence:
            return int(axis.code([values[each] for each in axis.dimensions]))
        return next((values[each] for each in axis.dimensions if each.layer in layers), axis.choices[-1])

    return replace(space, axes=tuple(replace(axis, choices=(number(axis),)) for axis in space.axes))


def deployed(adaptation: Any, adapted: Any, config: Any, base: Path) -> Losses:
    """Losses of test examples by the weights of a merged configuration, quantised again. Shape (n, 2)."""
    from adaptare.search.super_adapter.merging import requantised

    again = requantised(adapted, config, base, adaptation.task.quantisation)
    with again.activated(config.without_adapter):
        return example_losses(again.model, adaptation.examples.test)


def magnitude_base(folder: Path, own: Path) -> Path:
    """The model with its neurons in the order of their weights' norms, saved once."""
    from adaptare.search import load_base
    from adaptare.search.training.importance_orders import magnitude_scores, order_neurons

    if not (folder / "config.json").exists():
        model, tokenizer = load_base(own)
        order_neurons(model, magnitude_scores(model))
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def plain(
    options: argparse.Namespace, adaptation: Any, super_adapter: Any, space: Any, *, base: Path, name: str
) -> Any:
    """LoRA on a cut model, the only one of a space, trained for as many steps as the recipe."""
    from adaptare.search import SuperAdapter, TrainingSettings, load_base, train_super_adapter
    from adaptare.search.super_adapter.base_model import round_base
    from adaptare.search.training.step import TrainingStep, UniformSampler

    model, _ = load_base(base)
    round_base(model, adaptation.task.quantisation)
    adapted = SuperAdapter(model, space, alpha=super_adapter.alpha, seed=0)
    say(f"plain LoRA on the cut model, {name}")
    train_super_adapter(
        adapted,
        adaptation.examples.train,
        TrainingSettings(options.steps, 0, bf16=options.bf16),
        folder=options.folder / f"plain-{name}",
        step=TrainingStep(UniformSampler()),
    )
    return adapted


def example_losses(model: Any, examples: Any, *, batch_size: int = 16) -> Losses:
    """Sum of the loss and number of tokens of each completion. Shape (n, 2)."""
    import torch
    from torch.nn import functional

    from adaptare.search.training.passes import completion_logits, pad_batch

    rows: list[tuple[float, int]] = []
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        with torch.inference_mode():
            logits, labels = completion_logits(model, pad_batch(batch))
            losses = functional.cross_entropy(logits, labels, reduction="none")
        counts = [example.completion_tokens for example in batch]
        rows += [(float(part.sum()), count) for part, count in zip(losses.split(counts), counts, strict=True)]
    return np.array(rows)


def summary(found: Losses, choice: Losses) -> dict[str, Any]:
    """Loss and its difference to that of the choice, with intervals."""
    drawn = np.random.default_rng(0).integers(0, len(found), size=(DRAWS, len(found)))

    def loss(samples: Losses, rows: Any) -> Any:
        return samples[rows, 0].sum(axis=-1) / samples[rows, 1].sum(axis=-1)

    every = np.arange(len(found))
    losses, differences = loss(found, drawn), loss(found, drawn) - loss(choice, drawn)
    return {
        "loss": float(loss(found, every)),
        "loss_interval": np.quantile(losses, (0.025, 0.975)).tolist(),
        "difference": float(loss(found, every) - loss(choice, every)),
        "difference_interval": np.quantile(differences, (0.025, 0.975)).tolist(),
    }


def exported(folder: Path, adaptation: Any, super_adapter: Any, config: Any) -> dict[str, float]:
    """Difference of logits from the super-adapter's, of each export that stock tools load."""
    import torch
    from transformers import AutoModelForCausalLM

    from adaptare.search import export_adapter
    from adaptare.search.export.kinds import ExportOptions
    from adaptare.search.super_adapter.base_model import original
    from adaptare.search.super_adapter.merging import dense

    uniform = len(set(widths_of(config, super_adapter.shape))) == 1
    adapted = super_adapter.sub_adapter(config, adaptation.origin)
    options = ExportOptions(adaptation.task.quantisation, note=say)
    found = {"onnx": export_adapter(adapted, folder / "onnx", kind="onnx", options=options)}
    if uniform:
        export_adapter(adapted, folder / "merged", kind="merged")
        expected = dense(original(adapted, "none"))
        loaded, ids = AutoModelForCausalLM.from_pretrained(folder / "merged"), torch.arange(3, 27)[None]
        with torch.inference_mode():
            found["transformers"] = float((loaded(ids).logits - expected(ids).logits).abs().max())
            found["intermediate_size"] = loaded.config.intermediate_size
        found["num_hidden_layers"] = loaded.config.num_hidden_layers
    return found


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = [f"{result['model']} on {result['device']}, {result['processor']}, {result['date']}"]
    for phase, choices in result["phases"].items():
        for name, choice in choices.items():
            if choice is None:
                found.append(f"{phase}, {name}: none has its measured upper end within the budget")
                continue
            ends = f"[{choice['overhead_lower']:+.1%}, {choice['overhead_upper']:+.1%}]"
            widths = f"{len(choice['widths'])} layers of width {choice['widths'][0]} to {choice['widths'][-1]}"
            found.append(f"{phase}, {name}: {choice['overhead']:+.1%} {ends}, {widths}, {choice['exports']}")
            for row in choice["losses"]:
                found.append(f"  {loss_line(row)}")
            if beside := choice.get("beside_uniform"):
                found.append(f"  {loss_line({'cut': 'winner beside the uniform cut', **beside})}")
    found += ["fewer layers; differences are to the base"] if result["depths"] else []
    for row in result["depths"].get("losses", ()):
        found.append(f"  {loss_line(row)}")
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


def loss_line(row: Mapping[str, Any]) -> str:
    """Loss and difference of one cut, with intervals."""
    (low, high), (less, more) = row["loss_interval"], row["difference_interval"]
    loss, difference = (
        f"{row['loss']:.3f} [{low:.3f}, {high:.3f}]",
        f"{row['difference']:+.3f} [{less:+.3f}, {more:+.3f}]",
    )
    return f"{row['cut']:30} {loss}  difference {difference}"


if __name__ == "__main__":
    main()
