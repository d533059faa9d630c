"""The unit of timing: a shape with an adapter, applied in some mode, in some phase."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np

from adaptare.core import InputError
from adaptare.core.content_hash import content_hash
from adaptare.core.quantisation import QUANTISATIONS, Quantisation
from adaptare.devices import Work
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.kinds import RANK
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.shape import ModelShape, Site, first_layer
from adaptare.profiler.workloads.work import Linears, linears_of

Phase = Literal["prefill", "decode"]
Mode = Literal["merged", "swappable", "static", "padded", "requantised"]
# Modes in which the adapter is part of the weights.
IN_WEIGHTS: Final = ("merged", "requantised")
Scope = Literal["model", "block", "head"]
Caches = Literal["cold", "hot"]
Graph = Literal["cut", "open"]

# Modes in which A and B are graph inputs.
FED = ("swappable", "padded")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Kernels that one decoder layer of torch eager launches besides its linears, and a model besides its layers.
LAYER_LAUNCHES = 36
MODEL_LAUNCHES = 12


@dataclass(frozen=True)
class Workload:
    """One program call to time.

    Args:
        shape: Shape of the base model.
        configuration: Ranks of the adapter on each site (a linear that may carry one), widths of the layers, and layers
            left out, which is for scope `model` only.
        mode: Application mode of the adapter.
        graph: `cut`: sites without adapter add no nodes to the program; `open`: every site takes a swappable adapter at
            run time, and those without one get rank 0, which still takes time. If every site has an adapter, both are
            the same program, named `cut`.
        phase: `prefill`: `tokens` at once, logits of the last; `decode`: one token with `past` cached ones.
        scope: The whole `model`; one decoder `block` (layer 0); or the `head`: all but the decoder layers.
        batch: Sequences processed together.
        tokens: Tokens per sequence in prefill; ignored in decode, also in comparisons.
        past: Cached positions in decode; ignored in prefill, also in comparisons.
        caches: Processor caches at the call of a block or head: `cold`, as left by the rest of its model, or
            `hot`, as left by its previous call. A whole model has the caches to itself, and is always `cold`.
        dtype: Data type of base and adapter.
        quantisation: Of the base's linears and head, 8 or 4 bits in blocks of 32; adapters stay in `dtype`.
    """

    shape: ModelShape = field(repr=False)
    configuration: Configuration = field(default=Configuration(), repr=False)
    mode: Mode = "swappable"
    graph: Graph = "cut"
    phase: Phase = "decode"
    scope: Scope = "model"
    batch: int = 1
    tokens: int = field(default=64, compare=False)
    past: int = field(default=64, compare=False)
    caches: Caches = "cold"
    dtype: str = "float32"
    quantisation: Quantisation = "none"
    length: int = field(init=False, repr=False)
    """`tokens` in prefill, `past` in decode."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("mode", self.mode, get_args(Mode)),
            ("graph", self.graph, get_args(Graph)),
            ("phase", self.phase, get_args(Phase)),
            ("scope", self.scope, get_args(Scope)),
            ("caches", self.caches, get_args(Caches)),
            ("dtype", self.dtype, tuple(BYTES)),
            ("quantisation", self.quantisation, tuple(QUANTISATIONS)),
        ):
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if self.scope == "model":
            object.__setattr__(self, "caches", "cold")
        decoding = self.phase == "decode"
        object.__setattr__(self, "length", self.past if decoding else self.tokens)
        counts = (("batch", self.batch, 1), ("past", self.past, 0) if decoding else ("tokens", self.tokens, 1))
        for name, count, least in counts:
            if count < least:
                raise InputError(f"{name} must be at least {least}, not {count}")
        if self.scope != "model" and self.configuration.left_out:
            raise InputError(f"layers are left out of a whole model, not of a {self.scope}; take a scope of model")
        object.__setattr__(self, "configuration", self.configuration.on(self.shape))
        if self.graph == "open" and self.mode != "swappable":
            raise InputError(f"sites stay open for adapters that are swapped only; use mode swappable, not {self.mode}")
        if all(site.path in self.configuration.by_path for site in self.scope_sites):
            object.__setattr__(self, "graph", "cut")

    @property
    def base(self) -> "Workload":
        """The base model without adapter, at its widths and depth: the baseline of overheads."""
        return replace(self, configuration=Configuration(), mode="merged", graph="cut")

    def __repr__(self) -> str:
        return f"<Workload {self.describe()}: {self.configuration.describe()}>"

    def describe(self) -> str:
        """Short description of everything except the adapter."""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        caches = "" if self.scope == "model" else f" {self.caches}"
        mode = f"{self.mode}{' open' * (self.graph == 'open')}"
        call = f"{self.scope}{caches} {self.phase} {self.length} {mode}"
        return f"{call} {self.weight_format}{batch} ({self.shape.hash[:6]})"

    @property
    def bare(self) -> "Workload":
        """The workload without adapter, at the same widths and depth."""
        return replace(self.base, configuration=self.configuration.without_adapter)

    def with_configuration(self, configuration: Configuration) -> "Workload":
        """The workload with another configuration."""
        return replace(self, configuration=configuration)

    @property
    def merged(self) -> "Workload":
        """The same function with the adapter merged into the base."""
        return replace(self, mode="merged", graph="cut")

    @property
    def folded(self) -> "Workload":
        """The adapter in the weights: merged, and requantised on a quantised base."""
        return self.merged if self.quantisation == "none" else replace(self, mode="requantised", graph="cut")

    @property
    def in_weights(self) -> bool:
        """True if the adapter is part of the base's weights and adds no operators."""
        return self.mode in IN_WEIGHTS

    @property
    def positions(self) -> int:
        """Positions of each sequence after a call."""
        return self.past + 1 if self.phase == "decode" else self.tokens

    @cached_property
    def hash(self) -> str:
        """Identifies the workload: 16 hex digits of SHA-256."""
        return content_hash(self.to_json())

    @property
    def rows(self) -> int:
        """Rows of the matrix that every linear multiplies."""
        return self.batch * (1 if self.phase == "decode" else self.tokens)

    @cached_property
    def scope_sites(self) -> tuple[Site, ...]:
        """Linears that run in this scope, at their configured widths."""
        sites = self.configuration.sites(self.shape)
        if self.scope == "model":
            return sites
        return tuple(site for site in sites if site.layer < self.layers)

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """Module path -> part that stays, for the smaller linears of the loaded model.

        The only layer of a partial scope is 0.
        """
        parts = self.configuration.parts(self.shape)
        if self.scope == "model":
            return parts
        return {first_layer(site.path): parts[site.path] for site in self.scope_sites if site.path in parts}

    @property
    def layers(self) -> int:
        """Number of complete decoder layers that run."""
        whole = self.shape.layers - len(self.configuration.left_out)
        return {"model": whole, "block": 1, "head": 0}[self.scope]

    @property
    def has_head(self) -> bool:
        """True if the input is tokens and the output logits."""
        return self.scope in ("model", "head")

    @cached_property
    def linears(self) -> Linears:
        """Linears in this scope, as arrays of one row: work and memory follow from them."""
        dimensions, values = zip(*self.configuration.values, strict=True) if self.configuration.values else ((), ())
        sites = [self.shape.site_by_path[site.path] for site in self.scope_sites]
        linears = linears_of(self.shape, sites, dimensions, np.array([values], dtype=np.int64))
        return linears.padded() if self.mode == "padded" else linears

    def work(self) -> Work:
        """Launches, bytes and FLOPs of one call, counted from the shape."""
        linears, width = self.linears, BYTES[self.dtype]
        weights, heads = int(linears.weights.sum()), int(self.has_head)
        head = heads * self.shape.vocabulary * self.shape.hidden
        layers, queries = (int(each[0]) if self.layers else 0 for each in (linears.layers, linears.queries))
        work = Work(
            launches=int(linears.calls[0]) + layers * LAYER_LAUNCHES + heads * MODEL_LAUNCHES,
            moved_bytes=int(self.base_weight_bytes * weights) + int(self.base_weight_bytes * head) + self.cache_bytes,
            flops=2 * self.rows * weights + 4 * self.rows * self.positions * queries + 2 * self.batch * head,
        )
        if self.in_weights:
            return work
        added = linears.adapters(rows=self.rows, width=width, dora=self.configuration.kind == "dora")
        return work + Work(*(int(each.sum()) for each in (added.launches, added.moved_bytes, added.flops)))

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of one call: cached ones and new ones."""
        cached = int(self.linears.cached[0]) if self.layers else 0
        return BYTES[self.dtype] * self.batch * self.positions * cached

    @property
    def base_bytes(self) -> int:
        """Bytes of the weights that every call of the base reads: its linears and its head."""
        head = self.shape.vocabulary * self.shape.hidden if self.has_head else 0
        return int(self.base_weight_bytes * (head + int(self.linears.weights.sum())))

    @property
    def adapter_bytes(self) -> int:
        """Bytes of the adapter in addition to the base weights, in its application mode."""
        if self.in_weights:
            return 0
        lengths = self.linears.outputs[self.linears.ranks > 0] if self.configuration.kind == "dora" else 0
        return BYTES[self.dtype] * int(self.linears.adapter_weights.sum() + np.sum(lengths))

    @property
    def weight_format(self) -> str:
        """Name of the number format of the base's weights: its quantisation or, if it has none, its data type."""
        return self.dtype if self.quantisation == "none" else self.quantisation

    @property
    def base_weight_bytes(self) -> float:
        """Bytes of one weight of the base."""
        return QUANTISATIONS[self.quantisation].bytes_per_weight(BYTES[self.dtype])

    def to_json(self) -> dict[str, Any]:
        """All fields except defaults; the shape is represented by its hash.

        An open graph is recognised by rank 0 on some site.
        """
        ranks = {site.path: 0 for site in self.scope_sites} if self.graph == "open" else {}
        own = {"kind": "adapter_kind", RANK.key: "adapter"}
        others = {own.get(name, name): value for name, value in self.configuration.to_json().items()}
        quantised = {} if self.quantisation == "none" else {"quantisation": self.quantisation}
        caches = {} if self.scope == "model" else {"caches": self.caches}
        return {
            "shape": self.shape.hash,
            "mode": self.mode,
            "phase": self.phase,
            "scope": self.scope,
            "site": "",  # of a scope of earlier versions, kept so that hashes stay
            "batch": self.batch,
            "length": self.length,
            "dtype": self.dtype,
            **quantised,
            **caches,
            **others,
            "adapter": {**ranks, **others["adapter"]},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], shape: ModelShape) -> "Workload":
        """Inverse of `to_json`.

        Raises:
            InputError: The content belongs to another shape, or has a kind of dimension that no installed package
                registers.
        """
        if content["shape"] != shape.hash:
            raise InputError(f"the workload is of shape {content['shape']}, not of {shape.hash}")
        fields = {name: content[name] for name in ("mode", "phase", "scope", "batch", "dtype")}
        fields["quantisation"] = content.get("quantisation", "none")
        fields["caches"] = content.get("caches", "cold")
        ranks = content["adapter"]
        known = {"shape", "site", "adapter", "adapter_kind", "length", *fields}
        others = {name: value for name, value in content.items() if name not in known}
        kind = {"kind": content["adapter_kind"]} if "adapter_kind" in content else {}
        configuration = Configuration.from_json({RANK.key: ranks, **kind, **others})
        length = {"past" if content["phase"] == "decode" else "tokens": content["length"]}
        read = cls(shape, configuration, **fields, **length)
        fed = read.mode == "swappable" and all(site.path in ranks for site in read.scope_sites)
        return replace(read, graph="open") if fed else read


def partly_open(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> bool:
    """True if the JSON is of an obsolete graph of version 0.2.0.dev0, with adapter inputs on some sites only."""
    ranks: Mapping[str, int] = content["adapter"]
    sites = shapes[content["shape"]].sites if content["scope"] == "model" and "left_out" not in content else ()
    return 0 in ranks.values() and any(site.path not in ranks for site in sites)
