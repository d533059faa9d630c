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
from adaptare.core.strict_json import parse_json
from adaptare.core.whole_file import write_whole
from adaptare.devices.program import Json
from adaptare.profiler import Column, Dimension, MlpWidth, ModelShape, Site, Space
from adaptare.profiler.workloads.depth import Depth
from adaptare.profiler.workloads.space import rank_space
from adaptare.search.super_adapter.elastic import ElasticLinear, MakeLayer
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.scaling import Scaling

# Schema 1 is of spaces of ranks, 2 of those with widths, 3 of those with depth.
SCHEMA, WITH_WIDTHS, WITH_DEPTH = 1, 2, 3
PLAIN = ElasticLinear.__name__
_KINDS = {Site: "rank", MlpWidth: "width", Depth: "depth"}
_TENSORS, _DESCRIPTION = "super_adapter.safetensors", "super_adapter.json"


def describe(super_adapter: SuperAdapter) -> dict[str, Json]:
    """Base model, space and scaling of a super-adapter, as JSON."""
    space, scaling = super_adapter.space, super_adapter.scaling
    widths: list[Json] = [column.layer for column in space.columns if isinstance(column, MlpWidth)]
    order: list[Json] = list(space.depth.order) if space.depth else []
    return {
        "schema": WITH_DEPTH if order else WITH_WIDTHS if widths else SCHEMA,
        "base_shape": super_adapter.shape.hash,
        "space": {
            "name": space.name,
            "sites": [site.path for site in space.sites],
            "groups": [list(each.columns) for each in space.dimensions],
            "choices": [list(each.choices) for each in space.dimensions],
            **({"widths": widths} if widths else {}),
            **({"left_out_in_order": order} if order else {}),
        },
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
    if space is not None and (space.columns, space.dimensions) != (saved.columns, saved.dimensions):
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
        raise InputError(f"{file}: {wrong[0]!r} has NaN or infinite values; train again with a lower --learning-rate")
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
    if found not in (SCHEMA, WITH_WIDTHS, WITH_DEPTH):
        raise InputError(
            f"{file} has schema {found!r}; this version reads {SCHEMA} to {WITH_DEPTH}: update adaptare or train again"
        )
    return dict(description)


def _sizes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _space(saved: Mapping[str, Any], shape: ModelShape) -> Space:
    sites = [shape.site_by_path[path] for path in saved["sites"]]
    layers, order = saved.get("widths", []), saved.get("left_out_in_order", [])
    rows = [*saved["groups"], *saved["choices"], layers, order]
    if not all(type(number) is int and number >= 0 for row in rows for number in row):
        raise TypeError("groups, choices and layers of a space are whole numbers")
    if not layers and not order:
        return rank_space(saved["name"], sites, saved["groups"], saved["choices"])
    widths = [shape.mlp_widths[layer] for layer in layers]
    columns: tuple[Column, ...] = (*sites, *widths, *([shape.depth] if order else []))
    dimensions = tuple(
        Dimension(f"{_KINDS[type(columns[members[0]])]} {number}", tuple(choices), tuple(members))
        for number, (members, choices) in enumerate(zip(saved["groups"], saved["choices"], strict=True))
    )
    return Space(saved["name"], columns, dimensions).leaving_out(order)


def _words(space: Space) -> str:
    def choices(kind: type[Column]) -> list[int]:
        ours = (each for each in space.dimensions if isinstance(space.columns[each.columns[0]], kind))
        return sorted({choice for each in ours for choice in each.choices})

    what, numbers = "sites", f"ranks {choices(Site)}"
    if space.has_widths:
        what, numbers = "sites and widths", f"{numbers}, widths {choices(MlpWidth)}"
    if space.depth:
        gone = ", ".join(map(str, space.depth.order))
        what, numbers = f"{what} and depth", f"{numbers}, depths {choices(Depth)} leaving out layers {gone} in turn"
    return f"space {space.name!r} ({space.n_columns} {what} in {space.n_dimensions} groups, {numbers})"
