"""Logits of 4-bit graphs that round activations to 8 bits (`accuracy_level` 4) or do not (1), against exact weights.

python benchmarks/rounded_activations.py [--json] [--dialogues 60]

SmolLM2-135M without adapter, on dialogues of chatterbot-corpus, token by token with a cache. The reference is torch
with the dequantised weights of the same graph. Differences are relative to the largest logit of their position. The
loss is the mean over all tokens but the first of a dialogue; its difference has a 95 % interval of Student's t over
dialogues.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from stock_process import conditions, mean_interval

from adaptare.profiler import Workload, open_model
from adaptare.profiler.programs.onnx.bases import OnnxBases
from adaptare.search import chatterbot_examples
from adaptare.search.super_adapter import load_rounded

MODEL, LEVELS, LONGEST = "smollm2-135m", (4, 1), 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dialogues", type=int, default=60)
    options = parser.parse_args()
    source = open_model(MODEL)
    model, tokenizer = load_rounded(source.weights_folder(), "int4")
    examples = chatterbot_examples()
    chosen = np.random.default_rng(0).choice(len(examples), options.dialogues, replace=False)
    texts = [f"{examples[index].prompt} {examples[index].completion}" for index in chosen]
    dialogues = [ids for text in texts if len(ids := tokenizer(text)["input_ids"][:LONGEST]) > 1]
    with torch.inference_mode():
        exact = [model(torch.tensor([ids])).logits[0].numpy() for ids in dialogues]
    graph = OnnxBases(weights=source).base(Workload(source.shape, quantisation="int4")).model
    rows = []
    for level in LEVELS:
        with tempfile.TemporaryDirectory() as place:
            session = onnxruntime.InferenceSession(with_level(graph, level, Path(place)))
            found = [logits_of(session, ids) for ids in dialogues]
        rows.append({"accuracy_level": level, **compared(found, exact, dialogues)})
    result = {**conditions(torch.get_num_threads()), "positions": sum(map(len, dialogues)), "levels": rows}
    print(json.dumps(result) if options.json else "\n".join(map(shown, rows)))


def with_level(graph: Path, level: int, folder: Path) -> Path:
    """Copy of a graph whose quantised products have another accuracy level."""
    for file in graph.parent.glob("*.data"):
        shutil.copyfile(file, folder / file.name)
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            kept = [each for each in node.attribute if each.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("accuracy_level", level)])
    onnx.save(model, folder / graph.name)
    return folder / graph.name


def logits_of(session: Any, ids: Sequence[int]) -> NDArray[np.float32]:
    """Logits after each token. Shape (n, vocabulary)."""
    past = [each for each in session.get_inputs() if each.name.startswith("past")]
    cache = {each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32) for each in past}
    found = []
    for seen, token in enumerate(ids, 1):
        inputs = {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, seen), np.int64)}
        logits, *present = session.run(None, inputs | cache)
        cache = dict(zip(cache, present, strict=True))
        found.append(logits[0, -1])
    return np.stack(found)


def compared(
    found: Sequence[NDArray[np.float32]], exact: Sequence[NDArray[np.float32]], dialogues: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Differences of logits by position, and of losses by dialogue."""
    ours, theirs = np.concatenate(found), np.concatenate(exact)
    apart = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
    losses = [[loss(logits, ids) for logits, ids in zip(side, dialogues, strict=True)] for side in (found, exact)]
    lower, middle, upper = mean_interval(np.subtract(*losses))
    return {
        "difference_median": float(np.median(apart)),
        "difference_p95": float(np.quantile(apart, 0.95)),
        "difference_largest": float(apart.max()),
        "same_token": float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        "loss": float(np.mean(losses[1])),
        "loss_difference": [lower, middle, upper],
    }


def loss(logits: NDArray[np.float32], ids: Sequence[int]) -> float:
    """Nats per token."""
    probabilities = torch.log_softmax(torch.from_numpy(logits[:-1]).double(), dim=1)
    return float(-probabilities[torch.arange(len(ids) - 1), torch.tensor(list(ids[1:]))].mean())


def shown(row: dict[str, Any]) -> str:
    """A line for people."""
    lower, middle, upper = row["loss_difference"]
    return (
        f"accuracy_level {row['accuracy_level']}: logits differ by {row['difference_median']:.2%} (median), "
        f"{row['difference_p95']:.2%} (95 %), {row['difference_largest']:.2%} (largest) of the largest logit; same "
        f"token at {row['same_token']:.1%}; loss {middle:+.4f} [{lower:+.4f}, {upper:+.4f}] beside {row['loss']:.3f}"
    )


if __name__ == "__main__":
    main()
