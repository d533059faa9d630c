"""Exports to PEFT folders for programs that read a single alpha, or a single rank, for the whole adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch.nn import functional

from adaptare.core import InputError
from adaptare.devices.program import Json
from adaptare.profiler import Configuration
from adaptare.profiler.workloads.adapter import peft_arguments
from adaptare.search.export.folder import export_folder, origin_of
from adaptare.search.export.peft import check_complete
from adaptare.search.export.peft_files import Halves, write_peft
from adaptare.search.export.peft_readers import (
    Rule,
    check_readers,
    scale_of_one_rank,
    scale_of_patterns,
    scale_of_tensor_rank,
)
from adaptare.search.super_adapter.model import SuperAdapter

PortableKind = Literal["peft-portable", "peft-uniform"]
READERS: Mapping[PortableKind, Mapping[str, Rule]] = {
    "peft-portable": {"llama.cpp": scale_of_tensor_rank, "PEFT": scale_of_patterns},
    "peft-uniform": {
        "vLLM or Olive": scale_of_one_rank,
        "llama.cpp": scale_of_tensor_rank,
        "PEFT": scale_of_patterns,
    },
}


def export_peft_portable(
    super_adapter: SuperAdapter,
    config: Configuration,
    folder: str | Path,
    *,
    kind: PortableKind,
    base_name: str | None,
) -> float:
    """Writes a PEFT folder with a single alpha, after checking it as its readers read it.

    `peft-portable` keeps every rank. The scale of each site is folded into its B such that `lora_alpha` over the site's
    rank remains: the rule of llama.cpp, and of PEFT for a `rank_pattern` without `alpha_pattern`.

    `peft-uniform` has the largest rank of the config on every site; further rows of A and columns of B are zero. The
    scale is folded into B entirely and `lora_alpha` equals `r`, so every rule gives 1. Sites without adapter are absent
    from the weights and from `target_modules`, which lists full module paths: padding them would make them cost
    latency, and no reader needs them.

    Args:
        super_adapter: Source of the weights.
        config: Sites and ranks, at least one.
        folder: Absent, empty, or an earlier export, which is replaced.
        kind: See above.
        base_name: Hub id or folder of the base model, see `export_peft`.

    Returns:
        Largest difference of the logits over all readers, as `check_readers` defines it.

    Raises:
        InputError: The config is empty or not of this super-adapter, a weight is NaN or infinite, or the folder holds
            other files.
        DeviceError: A reader would compute something else; the folder is unchanged.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    if kind not in READERS:
        raise InputError(f"kind must be one of {', '.join(READERS)}, not {kind!r}")
    if not config.ranks:
        raise InputError("an adapter without any site cannot be written for PEFT; the base model is the result")
    check_complete(config)
    halves, arguments = (_folded if kind == "peft-portable" else _padded)(super_adapter, config)
    with export_folder(folder, origin=origin_of(kind, config, base_name)) as fresh:
        write_peft(fresh, halves, arguments, base_name=base_name)
        return check_readers(super_adapter, config, fresh, READERS[kind])


def _folded(super_adapter: SuperAdapter, config: Configuration) -> tuple[Halves, dict[str, Json]]:
    scales = super_adapter.scales(config)
    alpha = max(config.by_path.values())
    halves = {path: (A, B * (scales[path] * len(A) / alpha)) for path, (A, B) in super_adapter.tensors(config).items()}
    arguments = peft_arguments(config, dict.fromkeys(scales, 1.0))
    return halves, {**arguments, "lora_alpha": alpha, "alpha_pattern": {}}


def _padded(super_adapter: SuperAdapter, config: Configuration) -> tuple[Halves, dict[str, Json]]:
    scales = super_adapter.scales(config)
    largest = max(config.by_path.values())
    halves = {
        path: (
            functional.pad(A, (0, 0, 0, largest - len(A))),
            functional.pad(B * scales[path], (0, largest - len(A))),
        )
        for path, (A, B) in super_adapter.tensors(config).items()
    }
    uniform = Configuration.of(dict.fromkeys(config.by_path, largest))
    return halves, peft_arguments(uniform, dict.fromkeys(scales, 1.0))
