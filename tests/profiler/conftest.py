"""Small decoders of every family, and what ONNX files are made of them: each is exported once in a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.shape import one_layer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from adaptare.devices import Program
    from adaptare.profiler.programs.onnx.base import OnnxBase
    from adaptare.profiler.programs.onnx.programs import OnnxPrograms

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 72,
    "pad_token_id": 0,
}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "mistral": lambda: MistralConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "gemma": lambda: GemmaConfig(**SIZES),
    "gemma2": lambda: Gemma2Config(**SIZES, sliding_window=16),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, sliding_window=16),
    "phi3": lambda: Phi3Config(**SIZES),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family, one after the other."""
    return request.param


@pytest.fixture(scope="session")
def configs() -> Mapping[str, Callable[[], PreTrainedConfig]]:
    """What makes the config of a family: two small layers with grouped queries."""
    return FAMILIES


@pytest.fixture
def shape(family: str) -> ModelShape:
    """Of every family."""
    return ModelShape.from_config(FAMILIES[family]())


@pytest.fixture(scope="session")
def llama() -> ModelShape:
    """Of one family."""
    return ModelShape.from_config(FAMILIES["llama"]())


@pytest.fixture(scope="session")
def decoder() -> Callable[..., PreTrainedModel]:
    """Makes the decoder of a family, with weights so large that no part of it is silent: biases and norms too."""
    import torch

    from adaptare.profiler.models.random_model import random_model

    def make(family: str, *, layers: int = 2) -> PreTrainedModel:
        content = FAMILIES[family]().to_dict()
        model = random_model(one_layer(content) if layers == 1 else content)
        generator = torch.Generator().manual_seed(1)
        for weight in model.parameters():
            moved = weight + 0.3 * torch.randn(weight.shape, generator=generator) if weight.dim() == 1 else 6 * weight
            weight.copy_(moved)
        return model

    return make


@pytest.fixture(scope="session")
def export(
    decoder: Callable[..., PreTrainedModel], shared_folder: Path
) -> Callable[..., tuple[PreTrainedModel, OnnxBase]]:
    """The decoder of a family in torch and in ONNX; nothing is exported twice, so nobody may change the folder."""
    from adaptare.profiler.models.disk_cache import cached_folder
    from adaptare.profiler.programs.onnx.base import OnnxBase
    from adaptare.profiler.programs.onnx.export import export_decoder

    made: dict[tuple[str, str], tuple[PreTrainedModel, OnnxBase]] = {}

    def exported(family: str, module: str = "") -> tuple[PreTrainedModel, OnnxBase]:
        if (family, module) not in made:
            model = decoder(family, layers=1 if module else 2)

            def write(folder: Path) -> None:
                export_decoder(model, folder, module=module)

            folder = cached_folder(shared_folder / "exports" / f"{family} {module}", write)
            made[family, module] = model, OnnxBase.load(folder)
        return made[family, module]

    return exported


@pytest.fixture(scope="session")
def onnx_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by those who make programs of workloads, because every base in it takes seconds to export."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def onnx_programs(onnx_cache: Path) -> OnnxPrograms:
    from adaptare.devices import ort_cpu
    from adaptare.profiler.programs.onnx.programs import OnnxPrograms

    return OnnxPrograms(ort_cpu(threads=1).info(), cache=onnx_cache)


@pytest.fixture(scope="module")
def outputs() -> Iterator[Callable[[Program], NDArray[np.float64]]]:
    """The outputs of a program with one feed, as a worker of ONNX Runtime gives them."""
    from adaptare.devices import ort_cpu

    with ort_cpu(threads=1, timeout_s=60).open() as worker:

        def loaded(program: Program) -> NDArray[np.float64]:
            given = worker.load(program)
            worker.unload(given.program_id)
            return np.array(given.outputs[program.feeds[0].name])

        yield loaded


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., dict[str, NDArray[Any]]]:
    """Makes random inputs of a base: tokens, and a cache that no decoder has made."""

    def make(base: OnnxBase, *, batch: int = 1, tokens: int = 3, past: int = 5) -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng(2)
        arrays = {}
        for port in base.inputs:
            size = port.sizes(batch=batch, tokens=tokens, past=past)
            normal = rng.standard_normal(size).astype(np.float32)
            drawn = {"int64": rng.integers(0, SIZES["vocab_size"], size), "float32": normal}
            arrays[port.name] = np.ones(size, np.int64) if port.name == "attention_mask" else drawn[port.dtype]
        return arrays

    return make


@pytest.fixture(scope="session")
def torch_outputs() -> Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]]:
    """What transformers computes of the inputs of a base, in the order of its outputs.

    Logits of the last token, shape (batch, 1, vocabulary); then keys and values of each layer, grown by the tokens.
    """
    import torch
    from transformers import DynamicCache

    from adaptare.profiler.models.random_model import cache_argument

    def compute(model: PreTrainedModel, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        tokens = torch.from_numpy(inputs["input_ids"])
        halves = [torch.from_numpy(value) for name, value in inputs.items() if name.startswith("past_key_values.")]
        cache = DynamicCache()
        for layer in range(len(halves) // 2):
            cache.update(halves[2 * layer], halves[2 * layer + 1], layer)
        with torch.inference_mode():
            logits = model(input_ids=tokens, **{cache_argument(model): cache}).logits[:, -1:]
        return [
            tensor.numpy() for tensor in (logits, *(half for one in cache.layers for half in (one.keys, one.values)))
        ]

    return compute


@pytest.fixture(scope="session")
def torch_logits(
    torch_outputs: Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]],
) -> Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]:
    """The first of these outputs."""
    return lambda model, inputs: torch_outputs(model, inputs)[0]
