"""Super-adapters on disk: `super_adapter.safetensors`, and `super_adapter.json` with base model, space and scaling."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from adaptare.core import InputError, StorageError
from adaptare.core.content_hash import Json
from adaptare.core.strict_json import parse_json
from adaptare.core.whole_file import write_whole
from adaptare.profiler import RANK, WIDTH, Axis, ModelShape, Space
from adaptare.profiler.workloads import LAYER, kind_named
from adaptare.search.super_adapter.elastic import ElasticLinear, MakeLayer
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.scaling import Scaling

# Schemas 1 to 3 name sites, layers and an order of layers, and number them; 4 names the dimensions of each axis.
SCHEMA, WITH_AXES = 1, 4
PLAIN = ElasticLinear.__name__
_TENSORS, _DESCRIPTION = "super_adapter.safetensors", "super_adapter.json"


def describe(super_adapter: SuperAdapter) -> dict[str, Json]:
    """Base model, space and scaling of a super-adapter, as JSON."""
    space, scaling = super_adapter.space, super_adapter.scaling
    axes: list[Json] = [
        {"kind": axis.kind.key, "places": [each.place for each in axis.dimensions], "choices": list(axis.choices)}
        for axis in space.axes
    ]
    return {
        "schema": WITH_AXES,
        "base_shape": super_adapter.shape.hash,
        "space": {"name": space.name, "axes": axes},
        "scaling": {"rule": scaling.rule, "alpha": scaling.alpha},
        **({} if super_adapter.kind == PLAIN else {"layer": super_adapter.kind}),
    }


def save_super_adapter(super_adapter: SuperAdapter, folder: str | Path) -> None:
    """Writes both files into a folder, which is created if needed; each is written atomically.

    Raises:
        StorageError: The files could not be written.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in super_adapter.state().items()}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_whole(Path(folder) / _TENSORS, safetensors.torch.save(state))
        write_whole(Path(folder) / _DESCRIPTION, json.dumps(describe(super_adapter), indent=1))
    except OSError as error:
        raise StorageError(
            f"the super-adapter cannot be written to {str(folder)!r}: {error.strerror or error}"
        ) from error


def load_super_adapter(
    folder: str | Path, model: PreTrainedModel, *, space: Space | None = None, layer: MakeLayer = ElasticLinear
) -> SuperAdapter:
    """Loads a saved super-adapter onto a model of the same shape.

    Args:
        folder: Folder of the saved files.
        model: Base model, without adapters.
        space: Space it must have been trained for; default: the saved one.
        layer: Makes the elastic linear of a site, as in training.

    Raises:
        InputError: The super-adapter is missing, damaged, or of another base model or space. The model is
            unchanged.
    """
    description = read_description(folder)
    shape = ModelShape.from_config(model.config)
    damage = f"{str(folder)!r} holds a damaged {_DESCRIPTION}; train again, or use another folder"
    try:
        base, saved_space, scaling = description["base_shape"], description["space"], Scaling(**description["scaling"])
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(damage) from error
    if base != shape.hash:
        raise InputError(
            f"the super-adapter in {str(folder)!r} is of a base model of shape {base}, this one "
            f"has shape {shape.hash}; load the base model it was trained on"
        )
    try:
        saved = _space(saved_space, shape)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(damage) from error
    if space is not None and space.axes != saved.axes:
        raise InputError(
            f"the super-adapter in {str(folder)!r} was trained for {_words(saved)}, not {_words(space)}; "
            "search the space it was trained for, or train another"
        )
    super_adapter = SuperAdapter(model, space or saved, scaling=scaling, seed=0, layer=layer)
    try:
        if super_adapter.kind != (kind := description.get("layer", PLAIN)):
            raise InputError(
                f"the super-adapter in {str(folder)!r} was trained with {kind}, not {super_adapter.kind}; pass the "
                "layer of its recipe"
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


def read_description(folder: str | Path) -> Mapping[str, Any]:
    """Content of `super_adapter.json`, after a check of its schema.

    Raises:
        InputError: The file is missing, or of a later version.
    """
    file = Path(folder) / _DESCRIPTION
    try:
        description = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{str(folder)!r} holds no super-adapter: {_DESCRIPTION} cannot be read") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    found = description.get("schema") if isinstance(description, dict) else None
    if found not in range(SCHEMA, WITH_AXES + 1):
        raise InputError(
            f"{file} has schema {found!r}; this version reads {SCHEMA} to {WITH_AXES}: update adaptare or train again"
        )
    return dict(description)


def _sizes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _space(saved: Mapping[str, Any], shape: ModelShape) -> Space:
    groups = saved["axes"] if "axes" in saved else _numbered(saved, shape)
    for group in groups:
        if not all(type(choice) is int and choice >= 0 for choice in group["choices"]):
            raise TypeError("choices of a space are whole numbers")
    kinds = [kind_named(group["kind"]) for group in groups]
    axes = (
        Axis(f"{kind.name} {number}", tuple(group["choices"]), tuple(map(kind, group["places"])))
        for number, (kind, group) in enumerate(zip(kinds, groups, strict=True))
    )
    space = Space(saved["name"], shape, tuple(axes))
    if outside := [str(each) for each in space.dimensions if each.place not in each.kind.places(shape)]:
        raise KeyError(outside[0])
    return space


def _numbered(saved: Mapping[str, Any], shape: ModelShape) -> list[dict[str, Any]]:
    """Axes of the schemas before, which number sites, then layers that have a width, then the depth."""
    named = [(RANK.key, [path]) for path in saved["sites"]]
    named += [(WIDTH.key, [layer]) for layer in saved.get("widths", [])]
    named += [(LAYER.key, saved["left_out_in_order"])] if "left_out_in_order" in saved else []
    groups = zip(saved["groups"], saved["choices"], strict=True)
    return [
        {"kind": named[own[0]][0], "places": [place for one in own for place in named[one][1]], "choices": choices}
        for own, choices in groups
    ]


def _words(space: Space) -> str:
    kinds = [
        f"{len(own)} of {kind.name}s with the choices {sorted({choice for axis in own for choice in axis.choices})}"
        for kind in space.kinds
        if (own := [axis for axis in space.axes if axis.kind == kind])
    ]
    order = ", ".join(map(str, space.removal_order))
    last = f", leaving out layers {order} in turn" if order else ""
    return f"space {space.name!r} ({len(space.dimensions)} dimensions in {space.n_axes} axes: {', '.join(kinds)}{last})"
