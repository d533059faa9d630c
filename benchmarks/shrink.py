"""Adapters that stock PEFT trained, cut to half of their overhead, beside their first rows at no higher latency.

python benchmarks/shrink.py [--json] [--steps 24] [--evaluations 20] [--polish 0]

Three LoRAs of different sites, ranks and seeds are trained by PEFT on SmolLM2-135M with the dialogues of the package
chatterbot-corpus, and cut by `adaptare shrink` to half of what each is predicted to add to a decode step of PyTorch on
one thread (a predictor fitted to the measurements in `measured/prediction`). What was written is loaded by stock PEFT,
as are truncations of the adapter as it was trained, none predicted to be slower than the cut one: its first rows with
the very ranks of the cut one, its first r rows everywhere, if any r is fast enough, and all rows on as many linears as
are, evenly spread. Losses are of test examples that took no part in training, calibration or search, in nats per
completion token; differences (cut minus truncated) have a paired 95 % interval by bootstrap over examples.
"""

import argparse
import json
import lzma
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from prediction_cells import FULL, kept, plan
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core.progress import SILENT
from adaptare.predictor import FittedPredictor, LatencyPredictor, save_predictor
from adaptare.profiler import Configuration, open_model, read_peft
from adaptare.search import chatterbot_examples, load_base, read_budget, tokenize_split
from adaptare.search.training.passes import pad_batch
from adaptare.search.training.token_examples import TokenExample
from adaptare.workflows.search.shrinking import ShrinkRequest, shrink_adapter
from adaptare.workflows.train.task import TrainingData

MODEL, CELL = "smollm2-135m", "torch-fp32-decode"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
# Settings of each adapter; its number is its seed.
ADAPTERS: Mapping[str, Mapping[str, Any]] = {
    "q and v, rank 8": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    "all linears, rank 16": {"r": 16, "lora_alpha": 32, "target_modules": [*ATTENTION, *MLP]},
    "attention rank 16, MLP rank 4, rsLoRA": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [*ATTENTION, "up_proj", "down_proj"],
        "rank_pattern": dict.fromkeys(ATTENTION, 16),
        "use_rslora": True,
    },
}
SHARE, HELD_OUT, BATCH, DRAWS = 0.5, 32, 8, 4000


def fitted(place: Path) -> FittedPredictor:
    """Predictor of a session that was measured before."""
    packed = Path(__file__).parent / "measured" / "prediction" / f"{CELL}-first.sqlite.xz"
    (place / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    session = kept(CELL, "first", place)
    rows = [session[each.configuration] for each in plan(FULL[CELL]).training if each.configuration in session]
    return LatencyPredictor(regressor="shrunken").fit(rows)


def trained(base: Path, settings: Mapping[str, Any], examples: Sequence[TokenExample], steps: int, seed: int) -> Any:
    """An adapter trained by PEFT in a plain loop."""
    torch.manual_seed(seed)
    model = get_peft_model(load_base(base)[0], LoraConfig(task_type="CAUSAL_LM", **settings)).train()
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        batch = pad_batch([examples[index] for index in rng.choice(len(examples), BATCH, replace=False)])
        model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return model


def losses(model: PreTrainedModel, examples: Sequence[TokenExample]) -> NDArray[np.float64]:
    """Sum over the completion of each example, nats. Shape (n_examples,)."""
    found: list[float] = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            batch = pad_batch(examples[start : start + BATCH])
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
            each = functional.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
            found += each.sum(dim=1).tolist()
    return np.array(found)


def first_rows(base: Path, adapter: Path, ranks: Mapping[str, int]) -> PreTrainedModel:
    """The adapter in PEFT with its first rows only; sites that are not named have none."""
    model = PeftModel.from_pretrained(load_base(base)[0], str(adapter))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_A." in name:
                path = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
                weight[ranks.get(path, 0) :] = 0
    return model


def truncations(whole: Configuration, cut: Configuration, predictor: FittedPredictor) -> dict[str, Configuration]:
    """Name -> ranks of truncations that are predicted to be no slower than the cut adapter."""
    ranks, paths = whole.by_path, [site.path for site in predictor.template.shape.sites if site.path in whole.by_path]
    uniform = {
        f"first {rank} everywhere": {path: min(rank, own) for path, own in ranks.items()}
        for rank in range(max(ranks.values()), 0, -1)
    }
    spread = {
        f"all rows of {n} linears": {
            paths[index]: ranks[paths[index]] for index in np.linspace(0, len(paths) - 1, n).astype(int)
        }
        for n in range(len(paths), 0, -1)
    }
    limit_s = predictor.predict_configs([cut]).mean[0]
    found = {"first rows, same ranks": cut}
    for family in (uniform, spread):
        configs = {name: Configuration.of(each) for name, each in family.items()}
        seconds = predictor.predict_configs(list(configs.values())).mean
        fits = [name for name, each_s in zip(configs, seconds, strict=True) if each_s <= limit_s]
        found |= {name: configs[name] for name in fits[:1]}
    return found


def paired(cut: NDArray[np.float64], other: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, float]:
    """Difference of the losses with its interval; resampled by example."""
    drawn = np.random.default_rng(0).integers(0, len(tokens), size=(DRAWS, len(tokens)))
    resampled = (cut - other)[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)
    lower, upper = np.quantile(resampled, [0.025, 0.975])
    return {"difference": float((cut - other).sum() / tokens.sum()), "lower": float(lower), "upper": float(upper)}


def result_of(place: Path, *, steps: int, evaluations: int, polish: int, test: int) -> dict[str, Any]:
    """Every adapter, cut and truncated."""
    predictor = fitted(place)
    save_predictor(predictor, place / "predictor")
    torch.set_num_threads(os.cpu_count() or 1)
    source = open_model(MODEL).with_weights()
    base = source.weights_folder()
    data = place / "dialogues.jsonl"
    data.write_text(
        "\n".join(json.dumps({"prompt": each.prompt, "completion": each.completion}) for each in chatterbot_examples()),
        encoding="utf-8",
    )
    split = tokenize_split(chatterbot_examples(), load_base(base)[1], seed=0)
    examples = split.test[:test]
    tokens = np.array([each.completion_tokens for each in examples])
    rows = []
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        began = time.monotonic()
        folder = place / f"adapter-{seed}"
        trained(base, settings, split.train, steps, seed).save_pretrained(folder)
        whole = read_peft(folder, source.shape)
        predicted = predictor.relative.predict_configs([whole])
        # The upper end of an interval has to be within the budget.
        middle_s = predictor.base_value + SHARE * (float(predicted.mean[0]) - predictor.base_value)
        share = middle_s * float(predicted.upper[0] / predicted.mean[0]) / predictor.base_value - 1
        request = ShrinkRequest(
            folder,
            MODEL,
            place / "predictor",
            read_budget(f"overhead={100 * share:.3f}%"),
            place / f"cut-{seed}",
            data=TrainingData(0, data, held_out=HELD_OUT),
            polish=polish,
            evaluations=evaluations,
        )
        result = shrink_adapter(request, feedback=SILENT)
        print(f"{name}: cut after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        cut = result.winners[0].configuration
        own = losses(PeftModel.from_pretrained(load_base(base)[0], str(place / f"cut-{seed}")), examples)
        others = []
        for title, config in truncations(whole, cut, predictor).items():
            other = losses(first_rows(base, folder, config.by_path), examples)
            seconds = float(predictor.predict_configs([config]).mean[0])
            loss = float(other.sum() / tokens.sum())
            others.append({"name": title, "predicted_s": seconds, "loss": loss, **paired(own, other, tokens)})
        rows.append(
            {
                "adapter": name,
                "sites": [len(whole.ranks), len(cut.ranks)],
                "base_s": predictor.base_value,
                "budget_s": result.limit,
                "predicted_s": [float(predicted.mean[0]), result.winners[0].predicted.middle],
                "base_loss": float(losses(load_base(base)[0], examples).sum() / tokens.sum()),
                "original_loss": float(losses(first_rows(base, folder, whole.by_path), examples).sum() / tokens.sum()),
                "loss": float(own.sum() / tokens.sum()),
                "truncations": others,
                "below_all": all(each["difference"] < 0 for each in others),
                "surely_below_all": all(each["upper"] < 0 for each in others),
                "seconds": time.monotonic() - began,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"adapters": rows, "examples": len(examples), "below_all": all(each["below_all"] for each in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=24, help="of training each adapter")
    parser.add_argument("--evaluations", type=int, default=20, help="of each search")
    parser.add_argument("--polish", type=int, default=0, help="steps of training after the cut")
    parser.add_argument("--test", type=int, default=96, help="examples that losses are compared on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        result = result_of(
            Path(place),
            steps=options.steps,
            evaluations=options.evaluations,
            polish=options.polish,
            test=options.test,
        )
    if options.json:
        print(json.dumps(result))
        return
    for row in result["adapters"]:
        (whole_s, cut_s), (sites, left) = row["predicted_s"], row["sites"]
        print(f"{row['adapter']}: {sites} linears, {1e3 * whole_s:.2f} ms; cut to {left}, {1e3 * cut_s:.2f} ms")
        print(f"  loss {row['base_loss']:.3f} base, {row['original_loss']:.3f} original, {row['loss']:.3f} cut")
        for each in row["truncations"]:
            interval = f"{each['difference']:+.3f} [{each['lower']:+.3f}, {each['upper']:+.3f}]"
            print(f"  {each['loss']:.3f} {each['name']}, {1e3 * each['predicted_s']:.2f} ms: cut is {interval}")
    print(f"below every truncation: {result['below_all']}")


if __name__ == "__main__":
    main()
