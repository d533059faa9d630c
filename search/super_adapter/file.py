"""Super-adapters on disk: `super_adapter.safetensors`, and `super_adapter.json` with base model, space and scale."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from adaptare.core import InputError, StorageError
from adaptare.core.codec import from_json, to_json
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.core.whole_file import write_whole
from adaptare.profiler import Axis, ModelShape, Space
from adaptare.profiler.workloads import kind_named
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.model import SuperAdapter

SCHEMA = 4
_TENSORS, _DESCRIPTION = "super_adapter.safetensors", "super_adapter.json"


@dataclass(frozen=True)
class _Axis:
    kind: str
    places: tuple[str | int, ...]
    choices: tuple[int, ...]


@dataclass(frozen=True)
class _Space:
    name: str
    axes: tuple[_Axis, ...]


@dataclass(frozen=True)
class _Scaling:
    rule: Literal["constant"]
    alpha: float


@dataclass(frozen=True)
class _Description:
    base_shape: str
    space: _Space
    scaling: _Scaling
    layer: str = ElasticLinear.__name__


def describe(super_adapter: SuperAdapter) -> dict[str, Any]:
    """Base model, space and scale of a super-adapter, as JSON; the layer too, if it is not the usual one."""
    space, layer = super_adapter.space, super_adapter.layer.__name__
    axes = [_Axis(axis.kind.key, tuple(each.place for each in axis.dimensions), axis.choices) for axis in space.axes]
    scaling = _Scaling("constant", super_adapter.alpha)
    saved = to_json(_Description(super_adapter.shape.hash, _Space(space.name, tuple(axes)), scaling, layer))
    if layer == ElasticLinear.__name__:
        del saved["layer"]
    return {"schema": SCHEMA, **saved}


def save_super_adapter(super_adapter: SuperAdapter, folder: str | Path) -> None:
    """Writes both files into a folder, which is created if needed; each is written atomically.

    Raises:
        StorageError: The files could not be written.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in super_adapter.state().items()}
    write_versioned(Path(folder) / _DESCRIPTION, describe(super_adapter), schema=SCHEMA)
    try:
        write_whole(Path(folder) / _TENSORS, safetensors.torch.save(state))
    except OSError as error:
        raise StorageError(f"the weights cannot be written to {str(folder)!r}: {error.strerror or error}") from error


def hash_of_weights(folder: str | Path) -> str:
    """16 hex digits of SHA-256 of the weights of a saved super-adapter. Raises `InputError` if there are none."""
    file = Path(folder) / _TENSORS
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}; train again, or use another folder") from error


def load_super_adapter(
    folder: str | Path, model: PreTrainedModel, *, layer: type[ElasticLinear] = ElasticLinear
) -> SuperAdapter:
    """Loads a saved super-adapter onto a model of the same shape.

    Args:
        folder: Folder of the saved files.
        model: Base model, without adapters.
        layer: Elastic linear of a site, as in training.

    Raises:
        InputError: The super-adapter is missing, damaged, or of another base model. The model is unchanged.
    """
    shape, saved = ModelShape.from_config(model.config), _read(Path(folder))
    if saved.base_shape != shape.hash:
        raise InputError(
            f"the super-adapter in {str(folder)!r} is of a base model of shape {saved.base_shape}, this one "
            f"has shape {shape.hash}; load the base model it was trained on"
        )
    try:
        space = _space(saved.space, shape)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{_otherwise(folder)}; its base has no such dimensions: {error}") from error
    super_adapter = SuperAdapter(model, space, alpha=saved.scaling.alpha, seed=0, layer=layer)
    try:
        if super_adapter.layer.__name__ != saved.layer:
            raise InputError(
                f"the super-adapter in {str(folder)!r} was trained with {saved.layer}, not "
                f"{super_adapter.layer.__name__}; pass the layer of its recipe"
            )
        load_tensors(super_adapter, folder)
    except InputError:
        super_adapter.remove()
        raise
    return super_adapter


def load_tensors(super_adapter: SuperAdapter, folder: str | Path) -> None:
    """Overwrites the weights of a super-adapter with saved ones of the same sites and ranks.

    Raises:
        InputError: The file cannot be read or does not fit; the weights are unchanged.
    """
    file = Path(folder) / _TENSORS
    try:
        loaded = safetensors.torch.load(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read: {error}; train again, or use another folder") from error
    state = super_adapter.state()
    if _sizes(loaded) != _sizes(state):
        raise InputError(f"{file} does not hold the sites and ranks its description names; train again")
    if wrong := [name for name, tensor in loaded.items() if not torch.isfinite(tensor.float()).all()]:
        raise InputError(f"{file}: {wrong[0]!r} has NaN or infinite values; train again with a lower learning rate")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(loaded[name])


def _read(folder: Path) -> _Description:
    content = read_versioned(folder / _DESCRIPTION, schema=SCHEMA, otherwise=_otherwise(folder))
    try:
        return from_json(_Description, content)
    except InputError as error:
        raise InputError(f"{_otherwise(folder)}; {_DESCRIPTION}: {error}") from error


def _space(saved: _Space, shape: ModelShape) -> Space:
    if not saved.axes:
        raise ValueError("space has no axes")
    kinds = [kind_named(axis.kind) for axis in saved.axes]
    axes = (
        Axis(f"{kind.name} {number}", axis.choices, tuple(map(kind, axis.places)))
        for number, (kind, axis) in enumerate(zip(kinds, saved.axes, strict=True))
    )
    space = Space(saved.name, shape, tuple(axes))
    if outside := [str(each) for each in space.dimensions if each.place not in each.kind.places(shape)]:
        raise KeyError(outside[0])
    return space


def _otherwise(folder: str | Path) -> str:
    return f"{str(folder)!r} holds no super-adapter that this version reads; train again, or use another folder"


def _sizes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
