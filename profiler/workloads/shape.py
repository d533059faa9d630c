"""Sizes of a decoder language model, and its linears that may carry an adapter."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adaptare.core import InputError
from adaptare.core.content_hash import canonical_json

# Config fields that describe a checkpoint, not the sizes of the model.
_NOT_SHAPE = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "quantization_config",
    "name_or_path", "chunk_size_feed_forward", "id2label", "label2id", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict",
}  # fmt: skip


MOST_LAYERS, WIDEST = 10_000, 10_000_000
# Field -> its maximum: far above any model, and far below values at which the names of linears would fill the memory.
LARGEST = {
    "num_hidden_layers": MOST_LAYERS,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "head_dim", "vocab_size"), WIDEST),
    "num_key_value_heads": WIDEST,
    "max_position_embeddings": 2**40,
}
FIELD = re.compile(r"field '(\w+)'")


def check_sizes(config: Mapping[str, Any]) -> None:
    """Checks the sizes in the content of a config; any of them may be missing.

    Raises `InputError` if a size is not an integer, below 1 or larger than in any model, or a value is NaN or infinite.
    """
    for name, largest in LARGEST.items():
        value = config.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= largest):
            raise InputError(f"{name} of a model must be a whole number from 1 to {largest:,}, not {value!r}")
    try:
        json.dumps(config, allow_nan=False, default=str)
    except ValueError as error:
        raise InputError("the config has NaN or infinite values; a model has none") from error


def reason_of(error: Exception, config: Mapping[str, Any]) -> str:
    """Reason that transformers rejects a config, in one line and without the wording of its validators."""
    if match := FIELD.search(str(error)):
        name = match.group(1)
        return f"{name} cannot be {config.get(name)!r}"
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().removeprefix("ValueError: ")


@dataclass(frozen=True)
class Site:
    """One linear of the base model that may carry an adapter.

    Args:
        path: Module path, for example `model.layers.3.self_attn.q_proj`.
        kind: The last part of the path.
        layer: Index of its decoder layer.
    """

    path: str
    kind: str
    layer: int
    in_features: int
    out_features: int

    @property
    def largest_rank(self) -> int:
        """Rank above which an adapter is no longer low-rank."""
        return min(self.in_features, self.out_features)


# Equal to the width of no linear: the model builder tells the head of a model by its size.
ONE_LAYER_VOCABULARY = 61
LinearSizes = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a base model; weights are not needed to measure its latency.

    Args:
        family: `model_type` of the transformers config.
        hidden: Width of the residual stream.
        heads: Query heads.
        intermediate: Width of the MLP.
        vocabulary: Rows of the embedding.
        config: Canonical JSON of the transformers config, reduced to the fields that determine the shape.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    config: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.layers > MOST_LAYERS:
            raise InputError(f"a model has at most {MOST_LAYERS} layers, not {self.layers}; its file is damaged")

    @classmethod
    def from_config(cls, config: Any) -> "ModelShape":
        """The shape of a transformers config object. Raises `InputError` for other families, and sizes below 1."""
        family = str(config.model_type)
        if family not in FAMILIES:
            raise InputError(f"model family {family!r} is not supported; supported are {', '.join(sorted(FAMILIES))}")
        for name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"):
            if getattr(config, name) < 1:
                raise InputError(f"{name} of a model must be at least 1, not {getattr(config, name)}")
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        if heads % kv_heads:
            raise InputError(
                "num_key_value_heads must divide num_attention_heads, so that every key head has equally many queries; "
                f"{kv_heads} does not divide {heads}"
            )
        kept = {name: value for name, value in config.to_dict().items() if name not in _NOT_SHAPE}
        return cls(
            family=family,
            layers=int(config.num_hidden_layers),
            hidden=int(config.hidden_size),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
            intermediate=int(config.intermediate_size),
            vocabulary=int(config.vocab_size),
            config=canonical_json(json.loads(json.dumps(kept, default=str))),
        )

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> "ModelShape":
        """The shape of the content of a `config.json`. Raises `InputError` for other families and invalid values."""
        family = config.get("model_type")
        if not isinstance(family, str):
            raise InputError("the config has no model_type; a transformers config.json names its model family there")
        if family not in FAMILIES:
            raise InputError(f"model family {family!r} is not supported; supported are {', '.join(sorted(FAMILIES))}")
        check_sizes(config)
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        fields = {name: value for name, value in config.items() if name != "model_type"}
        try:
            parsed = AutoConfig.for_model(family, **fields)
        except (StrictDataclassError, ArithmeticError, TypeError, ValueError) as error:
            raise InputError(f"the config is none of a {family} model: {reason_of(error, config)}") from error
        return cls.from_config(parsed)

    @cached_property
    def hash(self) -> str:
        """Identifies the shape: 16 hex digits of SHA-256 over its config."""
        return hashlib.sha256(self.config.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """Short description that distinguishes models."""
        return f"{self.family} of {self.layers} layers, width {self.hidden}, vocabulary {self.vocabulary:,}"

    @property
    def sizes(self) -> tuple[str | int, ...]:
        """Family and numbers; unlike the hash they are equal in all versions of transformers."""
        numbers = (self.layers, self.hidden, self.heads, self.kv_heads, self.head_dim, self.intermediate)
        return (self.family, *numbers, self.vocabulary)

    @cached_property
    def tied(self) -> bool:
        """True if the head shares the weights of the embedding."""
        return bool(json.loads(self.config).get("tie_word_embeddings"))

    @cached_property
    def period(self) -> int:
        """Layers after which the attention types repeat, such as five with a sliding window and one without."""
        kinds = json.loads(self.config).get("layer_types") or [""]
        return next(period for period in range(1, len(kinds) + 1) if kinds[period:] == kinds[:-period])

    @cached_property
    def window(self) -> int | None:
        """Positions in the window of layers with sliding-window attention."""
        window: int | None = json.loads(self.config).get("sliding_window")
        return window

    def check_positions(self, count: int) -> None:
        """Raises `InputError` if the model supports fewer positions."""
        most = json.loads(self.config).get("max_position_embeddings")
        if most and count > most:
            raise InputError(
                f"the model ends at {most:,} positions (max_position_embeddings), and this needs {count:,}; choose a "
                "shorter prompt or cache"
            )

    @property
    def linears(self) -> LinearSizes:
        """Name, input and output width of each linear of a layer, in the order in which a layer calls them."""
        return FAMILIES[self.family](self)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every linear of the decoder layers, layer by layer, in the order in which a layer calls them."""
        return tuple(
            Site(f"model.layers.{layer}.{name}", name.rsplit(".", 1)[1], layer, wide_in, wide_out)
            for layer in range(self.layers)
            for name, wide_in, wide_out in self.linears
        )

    @cached_property
    def site_by_path(self) -> Mapping[str, Site]:
        """Module path -> site."""
        return {site.path: site for site in self.sites}

    def stub(self, layers: int) -> "ModelShape":
        """The same widths and head with fewer layers: two stubs give slope and intercept for a large model."""
        if not 1 <= layers <= self.layers:
            raise InputError(f"a stub of this model has 1 to {self.layers} layers, not {layers}")
        return ModelShape.from_mapping(with_kept_layers(json.loads(self.config), range(layers)))

    @property
    def parameters(self) -> int:
        """Weights of the decoder layers' linears and of the embedding, which is counted once."""
        return sum(site.in_features * site.out_features for site in self.sites) + self.vocabulary * self.hidden


def one_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a config with one decoder layer and a minimal vocabulary."""
    tokens = {name: 0 for name in ("bos_token_id", "eos_token_id", "pad_token_id") if config.get(name) is not None}
    return {**with_kept_layers(config, (0,)), **tokens, "vocab_size": ONE_LAYER_VOCABULARY}


def with_kept_layers(config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Content of a config with some of its decoder layers only."""
    types = {"layer_types": [config["layer_types"][layer] for layer in kept]} if config.get("layer_types") else {}
    return {**config, **types, "num_hidden_layers": len(kept)}


def part_of(
    config: Mapping[str, Any], ranks: Mapping[str, int], *, scope: str
) -> tuple[Mapping[str, Any], Mapping[str, int]]:
    """Config and ranks of the part that is loaded for a scope: one decoder layer for a block, none for a head."""
    if scope == "model":
        return config, ranks
    if scope == "head":
        return with_kept_layers(config, ()), {}
    return one_layer(config), {first_layer(path): rank for path, rank in ranks.items()}


def first_layer(path: str) -> str:
    """Path of the same linear in layer 0."""
    return in_layer(path, 0)


def in_layer(path: str, layer: int) -> str:
    """Path of the same linear in another layer."""
    parts = path.split(".")
    return ".".join([*parts[:2], str(layer), *parts[3:]])


def layer_of(path: str) -> int:
    """Number of the layer in the path of a linear; -1 if it has none."""
    number = re.match(r"model\.layers\.(\d+)\.", path)
    return int(number[1]) if number else -1


def _separate(shape: ModelShape) -> LinearSizes:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return (
        ("self_attn.q_proj", shape.hidden, queries),
        ("self_attn.k_proj", shape.hidden, keys),
        ("self_attn.v_proj", shape.hidden, keys),
        ("self_attn.o_proj", queries, shape.hidden),
        ("mlp.gate_proj", shape.hidden, shape.intermediate),
        ("mlp.up_proj", shape.hidden, shape.intermediate),
        ("mlp.down_proj", shape.intermediate, shape.hidden),
    )


def _fused(shape: ModelShape) -> LinearSizes:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return (
        ("self_attn.qkv_proj", shape.hidden, queries + 2 * keys),
        ("self_attn.o_proj", queries, shape.hidden),
        ("mlp.gate_up_proj", shape.hidden, 2 * shape.intermediate),
        ("mlp.down_proj", shape.intermediate, shape.hidden),
    )


FAMILIES: Mapping[str, Callable[[ModelShape], LinearSizes]] = {
    "gemma": _separate,
    "gemma2": _separate,
    "gemma3_text": _separate,
    "llama": _separate,
    "mistral": _separate,
    "phi3": _fused,
    "qwen2": _separate,
    "qwen3": _separate,
}
