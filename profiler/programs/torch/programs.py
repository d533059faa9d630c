"""Programs that a torch worker builds: a decoder loaded from a file, with adapters from PEFT.

This module is loaded in the worker. All programs of one base share its weights, so a candidate adds only the memory
of its adapter and every candidate reads the same bytes; merged layers have separate weights.
"""

import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from adaptare.profiler.models.model_cache import without_bars
from adaptare.profiler.models.random_model import cache_argument, random_model
from adaptare.profiler.programs.torch.shallow import shallow
from adaptare.profiler.programs.torch.weights import part_of
from adaptare.profiler.workloads.adapter import peft_arguments
from adaptare.profiler.workloads.adapter_weights import random_adapter
from adaptare.profiler.workloads.configuration import AdapterKind, Configuration
from adaptare.profiler.workloads.narrowing import WHOLE, Part, kept_parts
from adaptare.profiler.workloads.shape import ModelShape, first_layer
from adaptare.profiler.workloads.workload import Scope

# Base models of the loaded programs; a base is freed with the last program that shares it.
_bases: weakref.WeakValueDictionary["_Origin", nn.Module] = weakref.WeakValueDictionary()


def build(
    *,
    config: Mapping[str, Any],
    ranks: Mapping[str, int],
    kind: AdapterKind,
    mode: str,
    scope: Scope,
    site: str,
    dtype: str,
    widths: Mapping[str, int] | None = None,
    left_out: Sequence[int] = (),
    rounded: str = "",
    folder: str | None = None,
    copy: int = 0,
    device: str = "cpu",
    compiled: bool = False,
) -> "Bindable":
    """The program of a workload; the factory named in `Program.source`.

    Args:
        config: Content of a transformers config.
        ranks: Module path -> rank.
        kind: Kind of the adapter.
        mode: `merged` or `swappable`.
        scope: `model`, `block`, `layer` or `head`.
        site: Module path of the timed linear when the scope is `layer`.
        dtype: Name of a torch dtype.
        widths: Layer -> intermediate size of the narrower layers in the scope.
        left_out: Layers that the model lacks.
        rounded: Name of the torch dtype of the stored weights and of the adapter, if they are computed in another one.
        folder: Folder of config and weights of the scope, with the adapter in the weights if it is merged and not
            rounded; without it, the weights are random.
        copy: Programs with different numbers share no weights.
        device: Name of the torch device that everything is placed on.
        compiled: Compiles the program as a whole; what `torch.compile` cannot compile is an error.
    """
    config, ranks = part_of(config, ranks, scope=scope, site=site)
    # For scope `layer` only the linear is copied, because the modules around it do not run.
    origin = _Origin(
        folder or json.dumps(config, sort_keys=True), dtype, rounded, 0 if scope == "layer" else copy, device
    )
    base = _base(origin, folder)
    in_file = folder is not None and mode == "merged" and not rounded
    model = narrowed(base, {int(layer): width for layer, width in (widths or {}).items()})
    model = _adapted(model, Configuration.of({} if in_file else ranks, kind=kind), mode, rounded or dtype)
    model = shallow(model, left_out)
    if scope == "layer":
        model = _plain(model).get_submodule(first_layer(site))
        model = deepcopy(model) if copy else model
    return Bindable(base, model, scope, compiled=compiled)


class _Origin(NamedTuple):
    """Identifies a base: its folder or config, the dtypes it is computed and stored in, its copy, and its device."""

    content: str
    dtype: str
    rounded: str
    number: int
    device: str


def _base(origin: _Origin, folder: str | None) -> nn.Module:
    base = _bases.get(origin)
    if base is None:
        stored, number = origin.rounded or origin.dtype, origin.number
        base = _loaded(folder, stored) if folder else random_model(json.loads(origin.content), dtype=stored)
        base = base.to(origin.device)
        base = base.to(getattr(torch, origin.dtype)) if origin.rounded else base
        if number and folder:  # otherwise all copies would be mapped from the same pages
            for parameter in base.parameters():
                parameter.data = parameter.data.clone()
        _bases[origin] = base
    return base


def _loaded(folder: str, dtype: str) -> nn.Module:
    """A checkpoint, loaded as in transformers' documentation."""
    with without_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


def narrowed(model: nn.Module, widths: Mapping[int, int]) -> nn.Module:
    """The model with only the first neurons of some MLPs: layer -> intermediate size.

    Row slices are views into the memory of the base; column slices are copied, as every runtime needs them contiguous.
    """
    if not widths:
        return model
    clone = deepcopy(model, {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())})
    for path, part in kept_parts(ModelShape.from_config(model.config), widths).items():
        linear = clone.get_submodule(path)
        weight = linear.get_parameter("weight").data[part.outputs, part.inputs].contiguous()
        linear.weight = nn.Parameter(weight, requires_grad=False)
        for name, size in zip(("out_features", "in_features"), weight.shape, strict=True):
            setattr(linear, name, size)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.get_parameter("bias").data[part.outputs], requires_grad=False)
    return clone


def merge(
    model: nn.Module,
    ranks: Mapping[str, int],
    kind: AdapterKind,
    parts: Mapping[str, Part] | None = None,
    *,
    rounded: str = "",
) -> None:
    """Adds an adapter of random weights to the weights of a model, in place; DoRA keeps the row norms.

    Args:
        model: Modified in place.
        ranks: Module path -> rank.
        kind: Kind of the adapter.
        parts: Module path -> the part of the weight that the adapter applies to, where it is not the whole weight.
        rounded: Name of the torch dtype that A and B are rounded to; default: that of the weights.
    """
    for path, rank in ranks.items():
        whole, part = model.get_submodule(path).get_parameter("weight").data, (parts or {}).get(path, WHOLE)
        weight = whole[part.outputs, part.inputs]
        A, B = _halves(path, weight, rank, rounded)
        lengths = weight.norm(dim=1, keepdim=True)
        weight = weight + B @ A
        if kind == "dora":
            weight *= lengths / weight.norm(dim=1, keepdim=True)
        whole[part.outputs, part.inputs] = weight


def _adapted(base: nn.Module, adapter: Configuration, mode: str, rounded: str) -> nn.Module:
    """The base with an adapter of random weights, rounded to a dtype: unmerged by PEFT, or added to its weights.

    DoRA starts with the row norms of the base, and keeps them.
    """
    if not adapter.ranks:
        return base
    owned = {f"{path}.weight" for path, _ in adapter.ranks} if mode == "merged" else set()
    shared = [*base.named_buffers(), *((name, weight) for name, weight in base.named_parameters() if name not in owned)]
    clone = deepcopy(base, {id(tensor): tensor for _, tensor in shared})
    if mode == "merged":
        merge(clone, adapter.by_path, adapter.kind, rounded=rounded)
        return clone
    scales = {path: 1.0 for path, _ in adapter.ranks}
    config = LoraConfig(lora_dropout=0.0, **peft_arguments(adapter, scales))
    # In the precision of the base; PEFT would compute adapters of 16-bit weights in 32 bits.
    peft_model = get_peft_model(clone, config, autocast_adapter_dtype=False)
    for path, rank in adapter.ranks:
        layer = _plain(peft_model).get_submodule(path)
        A, B = _halves(path, layer.base_layer.weight, rank, rounded)
        layer.lora_A["default"].weight.data.copy_(A)
        layer.lora_B["default"].weight.data.copy_(B)
    swappable: nn.Module = peft_model.eval().requires_grad_(False)
    return swappable


def _halves(path: str, weight: Tensor, rank: int, rounded: str) -> tuple[Tensor, Tensor]:
    """A, shape (rank, in), and B, shape (out, rank), for a weight of shape (out, in), like it in dtype and device."""
    wide_out, wide_in = weight.shape
    dtype = getattr(torch, rounded) if rounded else weight.dtype
    down, up = (torch.from_numpy(half.array()).T.to(dtype) for half in random_adapter(path, rank, wide_in, wide_out))
    return down.to(weight), up.to(weight)


class Bindable:
    """A loaded program; `bind` prepares one of its feeds.

    Args:
        base: Kept alive for the programs that share its weights.
        model: Model to run, or that contains the block to run.
        scope: `model`, `block`, `layer` or `head`.
        compiled: Compiles all that is timed, for the shapes of each feed.
    """

    def __init__(self, base: nn.Module, model: nn.Module, scope: str, *, compiled: bool = False) -> None:
        self._base = base
        self._model = model
        self._scope = scope
        self._compiled = compiled
        self._device = next(base.parameters()).device
        self._random = torch.Generator()  # on the processor, so that all devices get the same inputs

    def bind(self, arguments: Mapping[str, Any]) -> tuple[Callable[[], Any], Callable[[], None]]:
        """The timed call, and the function that restores the state before it.

        Args:
            arguments: `phase`, `batch` and `length`, as in a workload.
        """
        self._random.manual_seed(0)  # the same inputs for any order in which feeds are bound
        phase, batch, length = arguments["phase"], arguments["batch"], arguments["length"]
        tokens = length if phase == "prefill" else 1
        past = length if phase == "decode" else 0
        if self._scope == "layer":
            return self._bind_layer(batch * tokens)
        cache = self._cache(batch, past)
        inputs = {"input_ids": self._tokens(batch, tokens), "use_cache": True, "logits_to_keep": 1}
        if phase == "decode" or self._scope == "block":
            inputs[cache_argument(self._base)] = cache
        restore = _restorer(cache)
        if self._scope == "block":
            return self._bind_block(inputs, restore), restore
        model = self._prepared(self._model)
        return _timed(lambda: model(**inputs).logits), restore

    def _prepared(self, module: Any) -> Any:
        return torch.compile(module, dynamic=False, fullgraph=True) if self._compiled else module

    def _bind_layer(self, rows: int) -> tuple[Callable[[], Any], Callable[[], None]]:
        linear, weight = self._prepared(self._model), next(self._model.parameters())
        inputs = torch.empty(1, rows, weight.shape[1]).normal_(generator=self._random).to(weight)
        return _timed(lambda: linear(inputs)), _do_nothing

    def _bind_block(self, inputs: Mapping[str, Any], restore: Callable[[], None]) -> Callable[[], Any]:
        """The call of decoder layer 0 with exactly the arguments that the model passes to it."""
        block = _plain(self._model).get_submodule("model.layers.0")
        seen: dict[str, Any] = {}
        hook = block.register_forward_pre_hook(
            lambda module, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True
        )
        restore()
        with hook, torch.inference_mode():
            self._model(**inputs)
        block = self._prepared(block)
        return _timed(lambda: _first(block(*seen["args"], **seen["kwargs"])))

    def _tokens(self, batch: int, tokens: int) -> Tensor:
        vocabulary: int = _plain(self._model).config.vocab_size
        return torch.randint(0, vocabulary, (batch, tokens), generator=self._random).to(self._device)

    def _cache(self, batch: int, past: int) -> DynamicCache:
        cache = DynamicCache(config=_plain(self._model).config)
        if past:
            with torch.inference_mode():
                inputs = {"input_ids": self._tokens(batch, past), "logits_to_keep": 1, "use_cache": True}
                self._model(**inputs, **{cache_argument(self._base): cache})
        return cache


def _plain(model: Any) -> Any:
    """The transformers model inside a PEFT model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _first(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _restorer(cache: DynamicCache) -> Callable[[], None]:
    """Function that restores the present content of the cache; layers grow into new tensors, so references suffice."""
    states = [(layer, dict(vars(layer))) for layer in cache.layers]

    def restore() -> None:
        for layer, state in states:
            vars(layer).clear()
            vars(layer).update(state)

    return restore


def _timed(call: Callable[[], Tensor]) -> Callable[[], "Output"]:
    def run() -> Output:
        with torch.inference_mode():
            return Output(call())

    return run


def _do_nothing() -> None:
    pass


class Output:
    """Defers the conversion of the output until after the timed region."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def tolist(self) -> list[float]:
        """All values, flat."""
        values: list[float] = self._tensor.float().flatten().tolist()
        return values
