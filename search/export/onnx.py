"""Export of a sub-adapter to ONNX Runtime: in a model with its base, or alone."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.devices.program import Json
from adaptare.profiler import Configuration, Quantisation, Site, Workload, open_model
from adaptare.profiler.programs.onnx.adapter_file import write_onnx_adapter
from adaptare.profiler.programs.onnx.base import OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.bases import OnnxBases
from adaptare.profiler.workloads.shape import with_kept_layers
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter
from adaptare.search.export.folder import export_folder, origin_of
from adaptare.search.export.onnx_check import ADAPTER_FILE, OnnxKind, check_onnx_export
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised_base import on_base

Adapter = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
Bases = Callable[[Quantisation], OnnxBase]
BESIDE = ("config.json", "generation_config.json")


def export_onnx(
    super_adapter: SuperAdapter,
    config: Configuration,
    folder: str | Path,
    *,
    kind: OnnxKind,
    base: str | Path,
    base_name: str | None = None,
    quantisation: Quantisation = "none",
    every_site: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
    cache: str | Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> float:
    """Writes a model with a sub-adapter, after checking that ONNX Runtime reproduces the outputs of torch.

    Every graph takes `input_ids` and a key/value cache, and returns the logits of the last token and the extended
    cache. Weights come from the folder of the base, not from the model in memory, whose weights may be rounded.

    Args:
        super_adapter: Source of the adapter.
        config: Configuration; the base is cut to its widths, which need not be uniform, and loses the layers left out.
            Sites keep the numbers of their layers in the base, and the cache is numbered anew.
        folder: Absent, empty, or an earlier export, which is replaced.
        kind: Application of the adapter. `onnx`: merged into the weights. `onnx-static`: separate constants.
            `onnx-swappable`: inputs whose default is rank 0, and the adapter in a file for `onnxruntime.LoraAdapter`.
        base: Folder of the base model.
        base_name: Hub id of the base model, recorded in the export.
        quantisation: Quantisation of the weights; the adapter stays in floating point, or is merged before.
        every_site: A swappable model takes adapters on any site, not only on those of this one.
        tokenizer: Saved with the model.
        cache: Folder that keeps the exported base; default: the user's cache folder.
        note: Called with a message before each long step.

    Returns:
        Largest difference of the logits from torch's, as `check_onnx_export` defines it.

    Raises:
        InputError: The config is not of this super-adapter, or swappable without any site; its sub-adapters exist
            merged only, or merging would fill the zeros of a sparse base; `every_site` is given with another kind; or
            the folder holds other files.
        MissingPackageError: A package is not installed.
        DeviceError: ONNX Runtime's outputs differ from torch's, or it failed; the folder is unchanged.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    if kind not in get_args(OnnxKind) or quantisation not in tuple(QUANTISATIONS):
        raise InputError(
            f"kind must be one of {get_args(OnnxKind)} and quantisation one of {tuple(QUANTISATIONS)}, "
            f"not {kind!r} and {quantisation!r}"
        )
    source = Path(base)
    adapter = _halves(super_adapter, config) if kind != "onnx" else {}
    if kind == "onnx-swappable":
        _check_sites(config)
    elif every_site:
        raise InputError(
            f"only a model whose adapters are swapped takes them on every site; {kind} has one for good: use "
            "onnx-swappable, or leave every_site out"
        )
    stored = open_model(str(source))
    if every_site:
        adapter = {**_without_rank(config.sites(stored.shape)), **adapter}
    bases = OnnxBases(cache, weights=stored)

    def base_as(quantised: Quantisation) -> OnnxBase:
        workload = Workload(stored.shape, config.without_adapter, quantisation=quantised)
        if not bases.folder(workload).is_dir():
            form = "ONNX" if quantised == "none" else f"ONNX with {quantised} weights"
            note(f"exporting the base to {form}; it is kept for the next time (135M weights take about a minute)")
        return bases.base(workload)

    from adaptare.profiler.programs.onnx.writer import write_model

    with export_folder(folder, origin=_origin(kind, config, base_name, quantisation)) as fresh:
        if kind == "onnx":
            _write_merged(super_adapter, config, source, base_as, quantisation, fresh)
        else:
            adapted = SubAdapter(
                config, {path: Halves(A.T, B.T) for path, (A, B) in adapter.items()}, base_as(quantisation)
            )
            write_model(adapted, fresh, application="static" if kind == "onnx-static" else "optional")
        if kind == "onnx-swappable":
            write_onnx_adapter(_named(adapter), fresh / ADAPTER_FILE)
        for name in BESIDE:
            if (source / name).exists():
                shutil.copyfile(source / name, fresh / name)
        if config.left_out:
            whole = json.loads((fresh / "config.json").read_text(encoding="utf-8"))
            fewer = with_kept_layers(whole, config.kept(stored.shape.layers))
            (fresh / "config.json").write_text(json.dumps(fewer, indent=2), encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save_pretrained(fresh)
        note("comparing what ONNX Runtime computes with torch")
        return check_onnx_export(super_adapter, config, fresh, kind=kind, base=source, quantisation=quantisation)


def export_onnx_adapter(
    super_adapter: SuperAdapter, config: Configuration, folder: str | Path, *, base_name: str | None
) -> None:
    """Writes `adapter.onnx_adapter` alone, for an `onnx-swappable` export with these widths and at least these sites.

    Args:
        super_adapter: Source of the weights.
        config: Sites and ranks, at least one.
        folder: Absent, empty, or an earlier export, which is replaced.
        base_name: Hub id or folder of the base model, recorded in the export; `None` if it has neither.

    Raises:
        InputError: The config is empty or not of this super-adapter, or the folder holds other files.
        MissingPackageError: A package is not installed.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    _check_sites(config)
    adapter = _halves(super_adapter, config)
    with export_folder(folder, origin=_origin("onnx-adapter", config, base_name, "none")) as fresh:
        write_onnx_adapter(_named(adapter), fresh / ADAPTER_FILE)


def _write_merged(
    super_adapter: SuperAdapter,
    config: Configuration,
    base: Path,
    bases: Bases,
    quantisation: Quantisation,
    folder: Path,
) -> None:
    from adaptare.profiler.programs.onnx.quantise import pack_int4
    from adaptare.profiler.programs.onnx.writer import code_names, write_model

    if super_adapter.on_grid and quantisation == "int4":
        adapted = SubAdapter(config, {}, bases("int4"))
        names = code_names(adapted.base)
        codes = super_adapter.int4_codes(config).items()
        packed = {names[path]: pack_int4(tensor.cpu().numpy()) for path, tensor in codes}
        write_model(adapted, folder, application="merged", weights=packed)
        return
    merged = on_base(super_adapter, base, "none").merged(config)
    adapted = SubAdapter(config, {}, bases("none"))
    weights = {adapted.base.sites[path].weight: _array(weight.T) for path, weight in merged.items()}
    write_model(adapted, folder, application="merged", weights=weights, quantisation=quantisation)


def _halves(super_adapter: SuperAdapter, config: Configuration) -> Adapter:
    """A, shape (in, rank), and B, shape (rank, out), which includes the scale; the graph adds x A B."""
    scales = super_adapter.scales(config)
    return {path: (_array(A.T), _array(scales[path] * B.T)) for path, (A, B) in super_adapter.tensors(config).items()}


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.float().cpu().numpy())


def _named(adapter: Adapter) -> dict[str, NDArray[np.float32]]:
    """Adapter tensors by input name of a swappable graph."""
    return {
        name: half
        for path, halves in adapter.items()
        for name, half in zip(adapter_inputs(path), halves, strict=True)
        if half.size
    }


def _without_rank(sites: Sequence[Site]) -> Adapter:
    """Adapter of rank 0 on every site."""
    return {
        site.path: (np.zeros((site.in_features, 0), np.float32), np.zeros((0, site.out_features), np.float32))
        for site in sites
    }


def _check_sites(config: Configuration) -> None:
    if not config.ranks:
        raise InputError("an adapter without any site cannot be swapped; export a config with at least one")


def _origin(kind: str, config: Configuration, base_name: str | None, quantisation: str) -> dict[str, Json]:
    return {**origin_of(kind, config, base_name), "quantisation": quantisation}
