"""Base models as GGUF files, without a tokenizer: enough for timing and for comparing logits."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.content_hash import content_hash
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.model_source import ModelSource, stored_weights, weights_identity
from adaptare.profiler.programs.gguf_names import adapter_tensors, architecture_of, as_rotated
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.sub_adapter import Halves

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYOUT: Final = 1
FILE: Final = "model.gguf"
# Families that are written; files of others are timed as they are.
WRITTEN: Final = ("llama", "qwen2", "qwen3")
# Scalings of positions that llama.cpp reads as one factor for each frequency, in the architecture `llama`.
SCALINGS: Final = ("default", "linear", "llama3")
FACTORS: Final = "rope_freqs.weight"
# Base of a workload -> type of its tensors in GGUF. Head and embedding of 4-bit files have 8 bits, as is usual.
TYPES: Final = {"int4": "Q4_0", "int8": "Q8_0", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
ENDS: Final = ("token_embd.weight", "output.weight")
HALF_SIZE: Final = "F16"


def check_writable(shape: ModelShape) -> None:
    """Raises `InputError` for a model that is not written as GGUF."""
    if shape.family not in WRITTEN:
        raise InputError(
            f"models of the family {shape.family} are not written as GGUF, only those of {', '.join(WRITTEN)}; convert "
            "it with llama.cpp's convert_hf_to_gguf.py, and name the file: llama-cpu:file=FILE.gguf"
        )
    known = SCALINGS if architecture_of(shape) == "llama" else SCALINGS[:1]
    if (scaling := rotation_of(shape).get("rope_type", "default")) not in known:
        raise InputError(
            f"models with {scaling} scaling of their positions are not written as GGUF; convert this one with "
            "llama.cpp's convert_hf_to_gguf.py, and name the file: llama-cpu:file=FILE.gguf"
        )


def rotation_of(shape: ModelShape) -> Mapping[str, Any]:
    """Settings of the rotary embedding."""
    return json.loads(shape.config).get("rope_parameters") or {}


def base_file(
    kept: KeptFolders,
    shape: ModelShape,
    kind: str,
    *,
    weights: ModelSource | None = None,
    merged: Mapping[str, int] = MappingProxyType({}),
) -> Path:
    """GGUF file of a model in the cache, written if necessary.

    Args:
        kept: Folders of all files.
        shape: The model.
        kind: A value of `TYPES`. Rows that do not have whole blocks of 32 weights are in 16 bits.
        weights: A model whose weights a file of its shape has; others have random ones.
        merged: Module path -> rank of a random adapter that is added to its weights.

    Raises:
        InputError: The model is not written as GGUF.
    """
    check_writable(shape)
    stored = stored_weights(weights, shape)
    own = [dict(merged)] if merged else []
    key = content_hash([LAYOUT, shape.config, kind, weights_identity(stored), *own])

    def write(folder: Path) -> None:
        from adaptare.profiler.models.random_model import base_model

        model = base_model(json.loads(shape.config), stored)
        for path, rank in merged.items():
            site, values = shape.site_by_path[path], model.get_submodule(path).weight.data.numpy()
            A, B = Halves.random(path, rank, site.in_features, site.out_features).of_rows
            values += (A @ B).T
        write_gguf_base(folder / FILE, model, shape, kind)

    return kept.files(kept.root / key, (FILE,), write)[0]


def write_gguf_adapter(file: Path, halves: Mapping[str, Halves], shape: ModelShape) -> None:
    """Writes an adapter of a model. Raises `InputError` for models that are not written as GGUF."""
    from adaptare.devices.agent.llama_runtime import write_adapter

    check_writable(shape)
    write_adapter(file, architecture_of(shape), adapter_tensors(halves, shape))


def write_gguf_base(file: Path, model: "PreTrainedModel", shape: ModelShape, kind: str = "F32") -> None:
    """Writes a model.

    Args:
        file: The new file.
        model: The model in transformers.
        shape: Its sizes and settings.
        kind: See `base_file`.
    """
    import gguf

    config, architecture = json.loads(shape.config), architecture_of(shape)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType[("ALL_" if kind == "F32" else "MOSTLY_") + kind])
    writer.add_context_length(config.get("max_position_embeddings") or 2048)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(shape.head_dim)
    base = float(rotation_of(shape).get("rope_theta", 10000.0))
    writer.add_rope_freq_base(base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    (known,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(known, shape.layers)
    rotary = model.model.rotary_emb.inv_freq.float().cpu().numpy()
    factors = base ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim) / rotary
    if rotation_of(shape).get("rope_type", "default") != "default":
        writer.add_tensor(FACTORS, factors.astype(np.float32))
    for name, tensor in model.state_dict().items():
        value = tensor.float().cpu().numpy()
        if name == "lm_head.weight" and shape.tied:
            continue
        path, end = name.rsplit(".", 1)
        renamed = f"{names.get_name(path)}.{end}"
        packed, quantised = _packed(renamed, as_rotated(path, value, shape), kind)
        writer.add_tensor(renamed, packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _packed(name: str, values: NDArray[np.float32], kind: str) -> tuple[NDArray[Any], Any]:
    """Data of a tensor, and its type unless the array tells it."""
    import gguf

    if values.ndim == 1 or kind == "F32":
        return values.astype(np.float32), None
    chosen = "Q8_0" if kind == "Q4_0" and name in ENDS else kind
    form = gguf.GGMLQuantizationType[chosen]
    if values.shape[1] % gguf.GGML_QUANT_SIZES[form][0]:
        form = gguf.GGMLQuantizationType[HALF_SIZE]
    return gguf.quants.quantize(values, form), form


def check_file(file: Path, shape: ModelShape) -> None:
    """Raises `InputError` if a GGUF file holds another model than one of this shape."""
    facts = _facts(str(file), file.stat().st_mtime_ns)
    architecture = architecture_of(shape)
    if facts.get("general.architecture") != architecture:
        raise InputError(
            f"{str(file)!r} is of the architecture {facts.get('general.architecture')}, and this base is of "
            f"{architecture}; name the file of that base"
        )
    sizes = {"embedding_length": shape.hidden, "block_count": shape.layers, "feed_forward_length": shape.intermediate}
    sizes |= {"attention.head_count": shape.heads, "attention.head_count_kv": shape.kv_heads}
    for name, size in sizes.items():
        found = facts.get(f"{architecture}.{name}", size)
        if found != size:
            raise InputError(
                f"{str(file)!r} is of another base: its {name} is {found}, and that of this base is {size}; name the "
                "file of that base"
            )


@cache
def _facts(file: str, changed_ns: int) -> Mapping[str, Any]:
    """Numbers and texts in the head of a GGUF file, which takes seconds to read. Raises `InputError`."""
    import gguf

    try:
        fields = gguf.GGUFReader(file).fields.values()
    except Exception as error:  # invalid files raise many types of errors
        raise InputError(f"{file!r} cannot be read as GGUF: {error}; convert or fetch it again") from error
    return {field.name: field.contents() for field in fields if field.types[:1] != [gguf.GGUFValueType.ARRAY]}
