"""Parsers that are fuzzed: the file that each reads, and content that is not damaged."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from adaptare.devices import Feed, Link, Program, SimulatedDevice, Work
from adaptare.devices.agent.files import Files
from adaptare.devices.agent.server import Agent, serve
from adaptare.devices.agent_worker import AgentWorker
from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
from adaptare.profiler import (
    FixedRounds,
    ModelShape,
    Workload,
    named_space,
    open_model,
    profile,
    read_peft,
    read_space,
)
from adaptare.profiler.programs.genai_folder import decoder_of
from adaptare.search import read_budget, read_examples
from adaptare.workflows.adapter_files import read_adapters
from adaptare.workflows.search.result import load_result
from adaptare.workflows.train.task import load_task

# An agent that sends a file, and ends when it is told to.
AGENT: Final = """cat "$0"; exec > /dev/null; grep -m 1 '"op": "close"'"""
CONFIG: Final = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 64,
}
SETTINGS: Final = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"]}
SETTINGS |= {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {}, "bias": "none", "exclude_modules": None}
SPACES: Final = (
    "groups:\n  - sites: ['*.q_proj', '*.v_proj']\n    ranks: [0, 2, 4]\n    tie: all\n",
    "groups:\n  - sites: ['*']\n    ranks: [0, 8]\n  - widths: [16, 24]\n    layers: [0, 1]\n",
    "groups:\n  - depth: [1, 2]\n",
)
BUDGETS: Final = ("decode=20ms", "prefill@128=80.5ms", "overhead=5%", "decode=-15%", "memory=200MB", "energy=5mJ")
ROWS: Final = (
    '{"prompt": "1+1", "completion": "2"}\n{"prompt": "1+2", "completion": "3"}\n',
    '[{"question": "a?", "choices": ["b", "c"], "answer": 0}]',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
    '{"instruction": "a", "input": "", "output": "b"}\n',
)
FRONT: Final = {
    "schema": 2,
    "budget": "decode=3ms",
    "limit": 0.003,
    "base": 0.001,
    "level": 0.9,
    "origin": "predicted",
    "place": {
        "model": "tiny-random",
        "device": "simulated",
        "quantisation": "none",
        "dtype": "float32",
        "phase": "decode",
        "length": 64,
    },
    "winners": [
        {
            "name": "winner 1",
            "mode": "swappable",
            "val_loss": 1.5,
            "test_loss": None,
            "loss_difference": None,
            "configuration": {"ranks": {"model.layers.0.mlp.up_proj": 4}},
            "predicted": {"lower": 0.001, "middle": 0.002, "upper": 0.003},
        }
    ],
    "baselines": [],
    "evaluations": {"nsga2": 8},
    "front": [[1.5, 0.002]],
    "folder": "run",
    "predictor": "p",
}
TASK: Final = {
    "schema": 2,
    "model": "m",
    "model_name": "tiny-random",
    "quantisation": "none",
    "recipe": "placement",
    "data": {"seed": 0, "file": "data.jsonl", "validation": None, "test": None, "max_tokens": 64, "held_out": 8},
}
REPLIES: Final = (
    {"machine": {"processors": [0, 1], "hardware": "h", "files": {"proc/meminfo": "MemAvailable: 1048576 kB"}}},
    {"timer_step_s": 1e-9, "runtime": "r 1", "threads": 2, "providers": [], "capabilities": ["forget"]},
    {
        "resident_bytes": 1,
        "peak_bytes": 1,
        "load_s": 0.1,
        "providers": {"cpu": 1},
        "outputs": {"f": [0.5]},
        "bind_s": {"f": 0.1},
        "first_call_s": {"f": 0.1},
    },
    {"count": 2, "seconds": [0.1, 0.2]},
    {"machine": {"files": {}}},
)
REQUESTS: Final = (
    {"op": "machine", "files": ["proc/meminfo"]},
    {"op": "missing", "digests": ["ab"]},
    {"op": "run", "program_id": "p", "feed_id": "f", "calls": 2},
    {
        "op": "load",
        "program_id": "p",
        "source": "s",
        "arguments": {},
        "files": {"../x": "ab"},
        "copies": 1,
        "feeds": [],
    },
    {"op": "unload", "program_id": "p"},
    {"op": "close"},
)


@dataclass(frozen=True)
class Parser:
    """A parser of one file.

    Args:
        name: Unique.
        file: File in a folder that it reads.
        make: Fills a folder with what else it reads, and returns content that is not damaged.
        read: Reads the folder.
        waits: True if it mostly waits for another process, so that time is that of the clock, not of the processor.
    """

    name: str
    file: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    waits: bool = False


def shape() -> ModelShape:
    """Shape of a model of two small layers."""
    return ModelShape.from_mapping(CONFIG)


def _tensors() -> dict[str, Any]:
    found = {}
    for site in shape().sites:
        if site.kind in SETTINGS["target_modules"]:
            name, rank = f"base_model.model.{site.path}.lora_{{}}.weight", 3 if site.kind == "q_proj" else 2
            found[name.format("A")] = np.ones((rank, site.in_features), dtype=np.float32)
            found[name.format("B")] = np.ones((site.out_features, rank), dtype=np.float16)
    return found


def _adapter(folder: Path) -> tuple[bytes, bytes]:
    settings, weights = json.dumps(SETTINGS).encode(), save(_tensors())
    (folder / "adapter_config.json").write_bytes(settings)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return settings, weights


def _predictor(folder: Path) -> list[bytes]:
    space, device = named_space("sites", shape(), ranks=(0, 2, 4, 8)), SimulatedDevice()
    codes = space.at(space.spread(12, np.random.default_rng(0)))
    workloads = [Workload(shape(), space.decode(each)) for each in codes]
    base = Workload(shape()).base
    rows = profile(workloads, reference=base, device=device, stop=FixedRounds(8), seed=0)
    save_predictor(LatencyPredictor(regressor="non-negative").fit(rows), folder / "p")
    return [(folder / "p.json").read_bytes()]


def _arrays(folder: Path) -> list[bytes]:
    _predictor(folder)
    return [(folder / "p.npz").read_bytes()]


def _read_arrays(folder: Path) -> object:
    """Reads arrays that the JSON file knows, as somebody would write them on purpose."""
    content = json.loads((folder / "p.json").read_text())
    content["arrays_sha256"] = hashlib.sha256((folder / "p.npz").read_bytes()).hexdigest()
    (folder / "p.json").write_text(json.dumps(content))
    return load_predictor(folder / "p")


def _lines(objects: tuple[Mapping[str, object], ...], **more: object) -> bytes:
    numbered = ({"seq": number, **more, **each} for number, each in enumerate(objects, 1))
    return "".join(json.dumps(each) + "\n" for each in numbered).encode()


def _ask(folder: Path) -> None:
    """What a host makes of the replies of an agent."""
    command = [str(shutil.which("sh")), "-c", AGENT, str(folder / "replies")]
    with contextlib.closing(AgentWorker(Link(command, print, os.environ), timeout_s=5.0)) as worker:
        worker.hello(threads=0, pin=False, cores="", gap_s=None, options={}, memory_bytes=0)
        loaded = worker.load(Program("p", "s", "{}", (Feed("f", "{}", Work(1, 1, 1)),)))
        worker.run(loaded.program_id, "f", 2)
        worker.environment()


class _NoRuntime:
    """A runtime that loads nothing."""

    def setup(self, threads: int, options: Mapping[str, Any]) -> Any:
        """Refuses every option."""
        raise ValueError("no options")

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> Any:
        """Refuses every program."""
        raise ValueError("no programs")


def _serve(folder: Path) -> None:
    """An agent answers each request that is JSON with a number; it ends at the first line that is not."""
    requests = (folder / "requests").read_text(encoding="utf-8", errors="replace").split("\n")
    agent = Agent(_NoRuntime(), Files(str(folder / "agent")), root=str(folder / "no-system"))
    replies = io.StringIO()
    with (
        contextlib.suppress(ValueError, KeyError, TypeError, RecursionError),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        serve(agent, requests, replies)
    for line in replies.getvalue().splitlines():
        assert isinstance(json.loads(line)["ok"], bool)
    assert {path.name for path in folder.iterdir()} <= {"agent", "requests"}


def _gguf(folder: Path) -> list[bytes]:
    write_gguf(folder / "seed")
    return [(folder / "seed").read_bytes()]


def write_gguf(file: Path, *, layers: int = 1, without: str = "", **numbers: int) -> None:
    """Writes a model of one layer and a vocabulary of eight tokens, with all that a reader looks for.

    Args:
        file: The new file.
        layers: Number that it names.
        without: Tensor that it lacks.
        numbers: Further numbers that it names, without the name of the architecture.
    """
    import gguf

    hidden, wide, tokens = 16, 24, [*"abcdef", "ab", "cd"]
    writer = gguf.GGUFWriter(file, "llama")
    sizes = {"block_count": layers, "context_length": 64, "embedding_length": hidden, "feed_forward_length": wide}
    sizes |= {"attention.head_count": 2, "attention.head_count_kv": 2}
    for name, value in (sizes | numbers).items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    widths = {"attn_q": (hidden, hidden), "attn_k": (hidden, hidden), "attn_v": (hidden, hidden)}
    widths |= {"attn_output": (hidden, hidden), "ffn_gate": (wide, hidden), "ffn_up": (wide, hidden)}
    layer: dict[str, tuple[int, ...]] = widths | {
        "ffn_down": (hidden, wide),
        "attn_norm": (hidden,),
        "ffn_norm": (hidden,),
    }
    ends = {"token_embd": (len(tokens), hidden), "output_norm": (hidden,)}
    for name, shape_of in ({f"blk.0.{name}": size for name, size in layer.items()} | ends).items():
        if name != without:
            writer.add_tensor(f"{name}.weight", np.ones(shape_of, dtype=np.float32))
    for write in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, write)()


def _text(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [text.encode() for text in texts]


_FOUND: Final = (
    Parser(
        "adapter-config",
        "adapter_config.json",
        lambda folder: [_adapter(folder)[0]],
        lambda folder: read_peft(folder, shape()),
    ),
    Parser(
        "safetensors",
        "adapter_model.safetensors",
        lambda folder: [_adapter(folder)[1]],
        lambda folder: read_peft(folder, shape()),
    ),
    Parser("predictor", "p.json", _predictor, lambda folder: load_predictor(folder / "p")),
    Parser("predictor-arrays", "p.npz", _arrays, _read_arrays),
    Parser("front", "front.json", _text(json.dumps(FRONT)), lambda folder: load_result(folder / "front.json")),
    Parser("task", "task.json", _text(json.dumps(TASK)), load_task),
    Parser("space", "space.yaml", _text(*SPACES), lambda folder: read_space(folder / "space.yaml", shape())),
    Parser(
        "ranks",
        "ranks.json",
        _text('{"*.q_proj": 8, "*.0.mlp.up_proj": 4}', '{"model.layers.0.self_attn.q_proj": 0}'),
        lambda folder: read_adapters(folder / "ranks.json", shape()),
    ),
    Parser(
        "ranks-table",
        "ranks.csv",
        _text("name,*.q_proj,*.up_proj\na,8,0\nb,,4\n", "*.q_proj\n4\n8\n"),
        lambda folder: read_adapters(folder / "ranks.csv", shape()),
    ),
    Parser("examples", "data.jsonl", _text(*ROWS), lambda folder: read_examples(folder / "data.jsonl")),
    Parser(
        "budget",
        "budget",
        _text(*BUDGETS),
        lambda folder: read_budget((folder / "budget").read_text(encoding="utf-8", errors="replace")),
    ),
    Parser(
        "model-config", "config.json", _text(json.dumps(CONFIG)), lambda folder: open_model(str(folder / "config.json"))
    ),
    Parser(
        "genai-config",
        "genai_config.json",
        _text('{"model": {"decoder": {"filename": "model.onnx", "hidden_size": 16}}}'),
        decoder_of,
    ),
    Parser("agent-replies", "replies", lambda folder: [_lines(REPLIES, ok=True)], _ask, waits=True),
    Parser("agent-requests", "requests", lambda folder: [_lines(REQUESTS)], _serve),
    Parser("gguf", "model.gguf", _gguf, lambda folder: open_model(str(folder / "model.gguf"), cache=folder / "cache")),
)
PARSERS: Final[Mapping[str, Parser]] = {parser.name: parser for parser in _FOUND}
