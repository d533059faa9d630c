"""Loss of unseen small adapters after training by several rules at equal tokens, and a training step beside PEFT's.

python benchmarks/samplers.py [--json] [--model smollm2-135m] [--seeds 3] [--passes 30] [--batch-size 4]
    [--max-tokens 48] [--held-out 16] [--configurations 20] [--only RULE ...] [--no-steps]

Every rule trains a super-adapter (ranks 0 to 16 on each half of each layer) on the same dialogues, for as many forward
and backward passes of a batch: a step of several configurations counts as several. Then the loss on held-out
completions is computed for the same configurations with adapters on at most half of the sites, where a budget puts the
winners; they are drawn with a seed of their own. `plain` is LoRA of the largest rank everywhere, truncated afterwards,
and `share-spread` is `share` with the draws of `spread`.
`budget` takes the number of sites in use as the cost, and 3/8 of them as the budget: no device is needed.

Losses are nats per completion token. Differences are to `share`, paired by seed and configuration. Two 95 % half-widths
of Student's t are given: over seeds (means over the configurations), and over configurations (means over the seeds).

Steps are timed in fresh processes, in turns: the largest configuration, a distilled sandwich, and stock PEFT with the
same rank on the same linears; plain loops with AdamW. Memory is the peak of resident memory during the steps over that
before them (Linux).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stock_process import conditions, mean_interval, say

from adaptare.profiler import Space, named_space, open_model
from adaptare.search import chatterbot_examples
from adaptare.search.budget.objective import Limit
from adaptare.search.training.step import SANDWICH, SPREAD, BudgetSampler, LargestShareSampler, TrainingStep

RANKS = (0, 2, 4, 8, 16)
LEARNING_RATE = 2e-3
TODAY = "share"
STEPS = ("peft", "largest", "sandwich")
WARM_UP, TIMED, REPEATS = 2, 5, 2


class SitesInUse:
    """Number of sites with an adapter, plus one for the base: a cost that needs no device."""

    name = "sites"

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        return np.asarray(1.0 + (codes > 0).sum(axis=1), dtype=np.float64)


RULES: Mapping[str, Callable[[Space], TrainingStep]] = {
    TODAY: lambda space: TrainingStep(LargestShareSampler()),
    "spread": lambda space: TrainingStep(SPREAD),
    "share-spread": lambda space: TrainingStep(LargestShareSampler(otherwise=SPREAD)),
    "budget": lambda space: TrainingStep(BudgetSampler(Limit(SitesInUse(), 1 + 3 / 8 * space.n_axes), band=1 / 3)),
    "sandwich": lambda space: SANDWICH,
    "plain": lambda space: TrainingStep(LargestShareSampler(1.0)),
}


def main() -> None:
    options = parser().parse_args()
    if options.step:
        print(json.dumps(one_step(options)))
        return
    started = time.monotonic()
    result: dict[str, Any] = {**conditions(options.threads), "model": options.model, "rules": []}
    result["arguments"] = {name: getattr(options, name) for name in ("seeds", "passes", "batch_size", "max_tokens")}
    result |= losses(options)
    result["steps"] = [] if options.no_steps else steps(options)
    result["elapsed_s"] = time.monotonic() - started
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--passes", type=int, default=30, help="forward and backward passes of a training")
    found.add_argument("--batch-size", type=int, default=4)
    found.add_argument("--max-tokens", type=int, default=48)
    found.add_argument("--held-out", type=int, default=16)
    found.add_argument("--configurations", type=int, default=20)
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--only", nargs="+", choices=RULES, default=list(RULES), metavar="RULE")
    found.add_argument("--no-steps", action="store_true", help="leaves out the time and memory of steps")
    found.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    return found


def losses(options: argparse.Namespace) -> dict[str, Any]:
    """Losses of the unseen configurations by rule, shape (seeds, configurations), with their intervals."""
    import torch

    from adaptare.search import (
        CompletionLoss,
        SuperAdapter,
        TrainingSettings,
        load_base,
        tokenize_split,
        train_super_adapter,
    )

    torch.set_num_threads(options.threads)
    model, tokenizer = load_base(open_model(options.model).with_weights().weights_folder())
    space = named_space("blocks", open_model(options.model).shape, ranks=RANKS)
    unseen = small(space, options.configurations)
    found: dict[str, list[NDArray[np.float64]]] = {rule: [] for rule in options.only}
    largest: dict[str, list[float]] = {rule: [] for rule in options.only}
    base_losses = []
    for seed in range(options.seeds):
        split = tokenize_split(chatterbot_examples(), tokenizer, seed=seed, max_tokens=options.max_tokens)
        for rule in options.only:
            step, began = RULES[rule](space), time.monotonic()
            super_adapter = SuperAdapter(model, space, seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                steps = max(1, options.passes // len(step.codes(space, seed=seed, step=0)))
                settings = TrainingSettings(steps, seed, batch_size=options.batch_size, learning_rate=LEARNING_RATE)
                train_super_adapter(super_adapter, split.train, settings, folder=folder, step=step)
            trained_s = time.monotonic() - began
            loss = CompletionLoss(super_adapter, split.test[: options.held_out])
            found[rule].append(loss(unseen))
            largest[rule].append(float(loss(super_adapter.largest[None])[0]))
            if rule == options.only[0]:
                base_losses.append(float(loss(0 * super_adapter.largest[None])[0]))
            super_adapter.remove()
            say(
                f"seed {seed}, {rule}: {found[rule][-1].mean():.3f} nats, largest {largest[rule][-1]:.3f}; "
                f"{trained_s:.0f} s + {time.monotonic() - began - trained_s:.0f} s"
            )
    reference = np.array(found[TODAY]) if TODAY in found else None
    rules = [
        {"rule": rule, **summary(np.array(found[rule]), reference), "largest_loss": float(np.mean(largest[rule]))}
        for rule in options.only
    ]
    return {"base_loss": float(np.mean(base_losses)), "sites": (unseen > 0).sum(axis=1).tolist(), "rules": rules}


def small(space: Space, n: int) -> NDArray[np.int64]:
    """Configurations with adapters on some, and at most half, of the sites. Shape (n, n_columns)."""
    codes = space.at(space.spread(20 * n, np.random.default_rng(2024)))
    share = (codes > 0).mean(axis=1)
    return codes[(share > 0) & (share <= 0.5)][:n]


def summary(table: NDArray[np.float64], reference: NDArray[np.float64] | None) -> dict[str, Any]:
    """Means and half-widths over seeds and over configurations, of losses and of differences to the reference."""
    rows = {"loss": table} | ({} if reference is None else {"difference": table - reference})
    content: dict[str, Any] = {"losses": table.tolist(), "between_configurations": float(table.std(axis=1).mean())}
    for name, values in rows.items():
        content[name] = float(values.mean())
        for what, axis in (("seeds", 1), ("configurations", 0)):
            means = values.mean(axis=axis)
            content[f"{name}_half_{what}"] = mean_interval(means)[2] - float(means.mean()) if len(means) > 1 else None
    return content


def steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds and memory of each kind of step: medians over processes."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in STEPS}
    words = [sys.executable, __file__, "--model", options.model, "--batch-size", str(options.batch_size)]
    words += ["--max-tokens", str(options.max_tokens), "--threads", str(options.threads)]
    for _ in range(REPEATS):
        for kind in STEPS:
            done = subprocess.run([*words, "--step", kind], stdout=subprocess.PIPE, text=True, check=True)
            found[kind].append(json.loads(done.stdout))
            say(f"step of {kind}: {found[kind][-1]}")
    stock_s = float(np.median([each["step_s"] for each in found["peft"]]))
    rows = []
    for kind, each in found.items():
        medians = {name: float(np.median([one[name] for one in each])) for name in each[0]}
        rows.append({"step": kind, **medians, "time_ratio": medians["step_s"] / stock_s})
    return rows


def one_step(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step, and bytes of memory added by steps."""
    import torch

    from adaptare.search import SuperAdapter, load_base, tokenize_split
    from adaptare.search.training.gradients import accumulate_gradients
    from adaptare.search.training.passes import pad_batch

    torch.set_num_threads(options.threads)
    source = open_model(options.model).with_weights()
    model, tokenizer = load_base(source.weights_folder())
    split = tokenize_split(chatterbot_examples(), tokenizer, seed=0, max_tokens=options.max_tokens)
    examples = split.train[: options.batch_size]
    batch, n_tokens = pad_batch(examples), sum(example.completion_tokens for example in examples)
    if options.step == "peft":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=RANKS[-1], lora_alpha=32, target_modules=[site.path for site in source.shape.sites])
        adapted = get_peft_model(model, config)
        weights = [weight for weight in adapted.parameters() if weight.requires_grad]

        def gradients(number: int) -> None:
            adapted(**batch).loss.backward()
    else:
        space = named_space("blocks", source.shape, ranks=RANKS)
        super_adapter = SuperAdapter(model, space, seed=0)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        sandwich = options.step == "sandwich"

        def gradients(number: int) -> None:
            codes = SANDWICH.codes(space, seed=0, step=number) if sandwich else super_adapter.largest[None]
            accumulate_gradients(
                super_adapter, codes, batch, n_tokens=n_tokens, distil=SANDWICH.distil if sandwich else None
            )

    with torch.no_grad():  # weights that are mapped into memory are read
        model(**batch)
    model.train()
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    before_bytes, seconds = reset_peak(), []
    for number in range(WARM_UP + TIMED):
        began = time.perf_counter()
        gradients(number)
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - began)
    return {"step_s": float(np.median(seconds[WARM_UP:])), "memory_bytes": status_bytes("VmHWM") - before_bytes}


def reset_peak() -> int:
    """Makes resident memory, whose bytes are returned, its peak so far."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int:
    """A size in the status of this process."""
    text = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in text if line.startswith(name))


def lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    found = [f"base {result['base_loss']:.3f} nats; {len(result['sites'])} configurations of {result['model']}"]
    for row in result["rules"]:
        text = f"{row['rule']:12} {row['loss']:.3f}, largest {row['largest_loss']:.3f}"
        if "difference" in row:
            text += f"; difference {row['difference']:+.3f}{_half(row, 'seeds')}{_half(row, 'configurations')}"
        found.append(f"{text}; between configurations {row['between_configurations']:.3f}")
    for row in result["steps"]:
        found.append(
            f"step {row['step']:9} {row['step_s']:.3f} s, {row['time_ratio']:.2f} of PEFT's; "
            f"{row['memory_bytes'] / 1e6:.0f} MB"
        )
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


def _half(row: dict[str, Any], what: str) -> str:
    half = row[f"difference_half_{what}"]
    return "" if half is None else f" ±{half:.3f} over {what}"


if __name__ == "__main__":
    main()
