"""Programs that a torch worker builds: a decoder loaded from a file, with adapters from PEFT.

This module is loaded in the worker. All programs of one base share its weights, so a candidate adds only the memory
of its adapter and every candidate reads the same bytes; merged layers have separate weights.
"""

import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import DynamicCache

from adaptare.core.codec import from_json
from adaptare.devices.agent.runtime import Output
from adaptare.profiler.models.random_model import base_model, cache_argument
from adaptare.profiler.programs.torch.cut import (
    merge,
    narrowed,
    plain_model,
    random_sub_adapter,
    shallow,
    shared_copy,
    tensors_of,
)
from adaptare.profiler.workloads.configuration import AdapterKind
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.peft_folder import peft_arguments
from adaptare.profiler.workloads.shape import part_of
from adaptare.profiler.workloads.sub_adapter import SubAdapter
from adaptare.profiler.workloads.workload import Scope

# Base models of the loaded programs; a base is freed with the last program that shares it.
_bases: weakref.WeakValueDictionary[tuple[str | int, ...], nn.Module] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class ProgramRequest:
    """Program of a workload, as the arguments of a `Program` name it in JSON.

    Args:
        config: Content of a transformers config.
        ranks: Module path -> rank.
        mode: `merged` or `swappable`.
        dtype: Name of a torch dtype.
        parts: Module path -> part that stays of its weight, where not all of it does.
        left_out: Layers that the model lacks.
        rounded: Name of the torch dtype of the stored weights and of the adapter, if they are computed in another one.
        folder: Folder of config and weights of the scope, with the adapter in the weights if it is merged and not
            rounded; without it, the weights are random.
        copy: Programs with different numbers share no weights.
        device: Name of the torch device that everything is placed on.
        compiled: Compiles the program as a whole; what `torch.compile` cannot compile is an error.
    """

    config: Mapping[str, Any]
    ranks: Mapping[str, int]
    kind: AdapterKind
    mode: str
    scope: Scope
    dtype: str
    parts: Mapping[str, Part] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    rounded: str = ""
    folder: str | None = None
    copy: int = 0
    device: str = "cpu"
    compiled: bool = False


def build(**arguments: Any) -> "Bindable":
    """The program of a `ProgramRequest`; the factory named in `Program.source`."""
    request = from_json(ProgramRequest, arguments)
    scope, mode, rounded = request.scope, request.mode, request.rounded
    config, ranks = part_of(request.config, request.ranks, scope=scope)
    base = _base(request, config)
    in_file = request.folder is not None and mode == "merged" and not rounded
    adapted = random_sub_adapter(narrowed(base, request.parts), {} if in_file else ranks, request.kind)
    model = shallow(_adapted(adapted, mode, rounded or request.dtype), request.left_out)
    return Bindable(base, model, scope, compiled=request.compiled)


def _base(request: ProgramRequest, config: Mapping[str, Any]) -> nn.Module:
    """Base of the scope, shared by all programs with the same file or config, dtypes, copy and device."""
    folder, stored = request.folder, request.rounded or request.dtype
    key = (folder or json.dumps(config, sort_keys=True), request.dtype, stored, request.copy, request.device)
    base = _bases.get(key)
    if base is None:
        base = base_model(config, Path(folder) if folder else None, dtype=stored).to(request.device)
        base = base.to(getattr(torch, request.dtype)) if request.rounded else base
        if request.copy and folder:  # otherwise all copies would be mapped from the same pages
            for parameter in base.parameters():
                parameter.data = parameter.data.clone()
        _bases[key] = base
    return base


def _adapted(adapted: SubAdapter[nn.Module], mode: str, rounded: str) -> nn.Module:
    """The base with an adapter, rounded to a dtype: unmerged by PEFT, or added to its weights.

    DoRA starts with the row norms of the base, and keeps them.
    """
    config = adapted.configuration
    if not adapted.halves:
        return adapted.base
    clone = shared_copy(adapted.base, {f"{path}.weight" for path in adapted.halves} if mode == "merged" else ())
    if mode == "merged":
        merge(clone, adapted.halves, kind=config.kind, rounded=rounded)
        return cast("nn.Module", clone)
    scales = {path: halves.scale for path, halves in adapted.halves.items()}
    settings = LoraConfig(lora_dropout=0.0, **peft_arguments(config, scales))
    # In the precision of the base; PEFT would compute adapters of 16-bit weights in 32 bits.
    peft_model = get_peft_model(clone, settings, autocast_adapter_dtype=False)
    for path, halves in adapted.halves.items():
        layer = plain_model(peft_model).get_submodule(path)
        A, B = tensors_of(halves, layer.base_layer.weight, rounded)
        layer.lora_A["default"].weight.data.copy_(A)
        layer.lora_B["default"].weight.data.copy_(B)
    swappable: nn.Module = peft_model.eval().requires_grad_(False)
    return swappable


class Bindable:
    """A loaded program; `bind` prepares one of its feeds.

    Args:
        base: Kept alive for the programs that share its weights.
        model: Model to run, or that contains the block to run.
        scope: `model`, `block` or `head`.
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

    def _bind_block(self, inputs: Mapping[str, Any], restore: Callable[[], None]) -> Callable[[], Any]:
        """The call of decoder layer 0 with exactly the arguments that the model passes to it."""
        block = plain_model(self._model).get_submodule("model.layers.0")
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
        vocabulary: int = plain_model(self._model).config.vocab_size
        return torch.randint(0, vocabulary, (batch, tokens), generator=self._random).to(self._device)

    def _cache(self, batch: int, past: int) -> DynamicCache:
        cache = DynamicCache(config=plain_model(self._model).config)
        if past:
            with torch.inference_mode():
                inputs = {"input_ids": self._tokens(batch, past), "logits_to_keep": 1, "use_cache": True}
                self._model(**inputs, **{cache_argument(self._base): cache})
        return cache


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


def _timed(call: Callable[[], Tensor]) -> Callable[[], Output]:
    """The call, whose output is converted after the timed region."""

    def run() -> Output:
        with torch.inference_mode():
            return Output(call().float)

    return run
