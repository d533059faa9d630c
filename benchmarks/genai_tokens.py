"""Tokens that onnxruntime-genai generates with exported adapters, against those of PEFT: switched, and back again.

python benchmarks/genai_tokens.py [--json] [--python PYTHON]

For SmolLM2-135M and random models of three families (Llama, Qwen3 with norms of q and k, Qwen2 with biases): two
adapters of mixed ranks and scales (`rank_pattern`, `alpha_pattern`), saved by PEFT. One is exported to a folder of
onnxruntime-genai, in fp32 and in 4 bits, and the other one for that folder (`--adapter-of`). One process loads both
and generates 32 tokens greedily with the first, the second, the first again, and none. `--python` names the interpreter
of an environment that need hold nothing but onnxruntime-genai; default: this one.

In fp32, and in 4 bits without rounded activations, the tokens must be those of PEFT, on the rounded weights in 4 bits.
With rounded activations the logits of the prompt tell how far they are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from adaptare.profiler import open_model
from adaptare.search import load_base
from adaptare.search.super_adapter.base_model import round_base

NEW, PROMPT = 32, 12
WEIGHTS = ("none", "int4-weight-only", "int4")
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "eos_token_id": 0,
}
FAMILIES: dict[str, type[PretrainedConfig]] = {"llama": LlamaConfig, "qwen3": Qwen3Config, "qwen2": Qwen2Config}
ADAPTERS: tuple[dict[str, Any], ...] = (
    {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "rank_pattern": {"v_proj": 4, "layers.1.mlp.down_proj": 2},
        "alpha_pattern": {"q_proj": 4},
    },
    {"r": 3, "lora_alpha": 12, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"]},
)
GENERATE = """
import json, sys
import onnxruntime_genai as og

request = json.load(sys.stdin)
model = og.Model(request["folder"])
adapters = og.Adapters(model)
for number, file in enumerate(request["adapters"]):
    adapters.load(file, str(number))
found = []
for number in [0, 1, 0, None]:
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(request["prompt"]) + request["new"], do_sample=False)
    generator = og.Generator(model, parameters)
    if number is not None:
        generator.set_active_adapter(adapters, str(number))
    generator.append_tokens(request["prompt"])
    logits = generator.get_logits().ravel().tolist()
    for _ in range(request["new"]):
        generator.generate_next_token()
    found.append({"logits": logits, "tokens": [int(token) for token in generator.get_sequence(0)][-request["new"]:]})
print(json.dumps({"version": og.__version__, "runs": found}))
"""


def bases_in(folder: Path) -> dict[str, Path]:
    """Folders of the models by name; the random ones are written here."""
    bases = {"SmolLM2-135M": open_model("smollm2-135m").weights_folder()}
    for name, config in FAMILIES.items():
        torch.manual_seed(0)
        bases[name] = folder / name
        AutoModelForCausalLM.from_config(config(**SMALL)).save_pretrained(bases[name])
        words = models.WordLevel({f"word{number}": number for number in range(SMALL["vocab_size"])}, "word1")
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words)).save_pretrained(bases[name])
    return bases


def saved_adapters(base: Path, folder: Path) -> list[Path]:
    """Folders of two adapters on a base, with random weights, as PEFT saves them."""
    saved = []
    for seed, settings in enumerate(ADAPTERS):
        model, _ = load_base(base)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.mul_(0.2)
        adapted.save_pretrained(folder / f"adapter-{seed}")
        saved.append(folder / f"adapter-{seed}")
    return saved


def of_peft(base: Path, adapter: Path | None, prompt: Sequence[int], *, rounded: bool) -> dict[str, Any]:
    """Logits of the prompt's last token, and the tokens that follow greedily, in PEFT."""
    model, _ = load_base(base)
    if rounded:
        round_base(model, "int4")  # and for int4-weight-only, the same values
    run = PeftModel.from_pretrained(model, str(adapter)).eval() if adapter else model.eval()
    ids = torch.tensor([list(prompt)])
    with torch.inference_mode():
        logits = run(input_ids=ids).logits[0, -1].numpy()
        for _ in range(NEW):
            ids = torch.cat([ids, run(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return {"logits": logits, "tokens": ids[0, len(prompt) :].tolist()}


def exported(adapters: Sequence[Path], base: Path, folder: Path, quantisation: str) -> tuple[Path, list[str]]:
    """Folder for onnxruntime-genai with the first adapter, and both adapter files."""
    command = [sys.executable, "-m", "adaptare", "export"]
    words = ["--quantise", quantisation] if quantisation != "none" else []
    model, other = folder / f"genai-{quantisation}", folder / f"other-{quantisation}"
    for adapter, kind, more, out in (
        (adapters[0], "genai", words, model),
        (adapters[1], "onnx-adapter", ["--adapter-of", str(model)], other),
    ):
        call = [*command, str(adapter), "--base", str(base), "--to", kind, *more, "-o", str(out)]
        subprocess.run(call, check=True, capture_output=True)
    return model, [str(each / "adapter.onnx_adapter") for each in (model, other)]


def generated(python: str, request: dict[str, Any]) -> dict[str, Any]:
    """Version of onnxruntime-genai, and the logits and tokens of its runs, in a process of its own."""
    command = [python, "-I", "-c", GENERATE]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(name: str, base: Path, folder: Path, python: str) -> list[dict[str, Any]]:
    """Rows of one model: tokens equal to PEFT's, and the difference of logits, for each way to store the weights."""
    adapters = saved_adapters(base, folder)
    vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    prompt = np.random.default_rng(1).integers(1, vocabulary, PROMPT).tolist()
    rows = []
    for quantisation in WEIGHTS:
        model, files = exported(adapters, base, folder, quantisation)
        output = generated(python, {"folder": str(model), "adapters": files, "prompt": prompt, "new": NEW})
        first, second, none = (
            of_peft(base, each, prompt, rounded=quantisation != "none") for each in (*adapters, None)
        )
        for active, expected, found in zip(
            ("first", "second", "first again", "none"), (first, second, first, none), output["runs"], strict=True
        ):
            same = [a == b for a, b in zip(expected["tokens"], found["tokens"], strict=True)]
            difference = np.abs(np.array(found["logits"]) - expected["logits"]).max() / np.abs(expected["logits"]).max()
            rows.append(
                {
                    "model": name,
                    "weights": quantisation,
                    "adapter": active,
                    "equal_tokens": same.index(False) if False in same else NEW,
                    "tokens": NEW,
                    "logits_difference": float(difference),
                    "onnxruntime_genai": output["version"],
                }
            )
    return rows


def compare_all(
    description: str | None,
    compared: Callable[[str, Path, Path, str], list[dict[str, Any]]],
    line: Callable[[Mapping[str, Any]], str],
) -> None:
    """The command line of a comparison of tokens.

    Args:
        description: Of the command.
        compared: Name and folder of a base, a folder for exports, and the Python to run -> rows.
        line: Row -> its line for people.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, base in bases_in(Path(place)).items():
            folder = Path(place) / f"{name}-exports"
            folder.mkdir()
            rows += compared(name, base, folder, options.python)
    if options.json:
        print(json.dumps(rows))
        return
    print("\n".join(map(line, rows)))


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    return (
        f"{row['model']:13} {row['weights']:16} {row['adapter']:12} {row['equal_tokens']} of {row['tokens']} "
        f"tokens are PEFT's; logits differ by {row['logits_difference']:.1e}"
    )


if __name__ == "__main__":
    compare_all(__doc__, compared, line)
