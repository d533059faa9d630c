"""`adaptare predict`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, between, command, milliseconds, percent

if TYPE_CHECKING:
    from adaptare.profiler import AdapterConfig, ModelShape


@command
def predict(
    predictor: Annotated[Path, typer.Argument(metavar="PREDICTOR", help="What adaptare fit wrote.")],
    adapters: Annotated[
        list[Path], typer.Argument(metavar="ADAPTER...", help="PEFT folders, or JSON files of module path to rank.")
    ],
    device: Annotated[str | None, typer.Option("--device", help="Refuse a predictor of another device.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What adapters would take, without running them."""
    from adaptare.predictor import load_predictor
    from adaptare.profiler import BYTES
    from adaptare.target import named_target

    console = Console(as_json=as_json)
    fitted = load_predictor(predictor)
    template = fitted.template
    if device:
        load_predictor(predictor, device=named_target(device, fitted.model.device, template).device.info())
    configs = [_read(adapter, template.shape) for adapter in adapters]
    predicted = fitted.predict_configs(configs)
    base_s = fitted.model.reference_s
    rows: list[dict[str, Any]] = [
        {
            "adapter": str(adapter),
            "sites": len(config),
            "mean_s": float(predicted.mean_s[index]),
            "lower_s": float(predicted.lower_s[index]),
            "upper_s": float(predicted.upper_s[index]),
            "overhead": float(predicted.mean_s[index] / base_s - 1),
            "adapter_bytes": BYTES[template.dtype] * config.adapter_parameters(template.shape),
            "extrapolates": bool(predicted.extrapolates[index]),
        }
        for index, (adapter, config) in enumerate(zip(adapters, configs, strict=True))
    ]
    console.table(
        f"Predicted for {fitted.model.device.device}: {template.describe()}; base {milliseconds(base_s)} ms",
        ["adapter", "sites", "ms", f"{fitted.model.level:.0%} interval", "overhead", "MB", "outside what was measured"],
        [
            [
                row["adapter"],
                str(row["sites"]),
                milliseconds(row["mean_s"]),
                between(milliseconds(row["lower_s"]), milliseconds(row["upper_s"])),
                percent(row["overhead"]),
                f"{row['adapter_bytes'] / 1e6:.1f}",
                "yes" if row["extrapolates"] else "no",
            ]
            for row in rows
        ],
    )
    console.result({"predictor": str(predictor), "device": fitted.model.device.device, "base_s": base_s, "rows": rows})


def _read(path: Path, shape: "ModelShape") -> "AdapterConfig":
    from adaptare.devices import InputError
    from adaptare.profiler import AdapterConfig, read_peft

    if path.is_dir():
        return read_peft(path, shape)
    try:
        ranks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{str(path)!r} is neither a PEFT folder nor a JSON file of module path to rank") from error
    if not isinstance(ranks, dict) or not all(type(rank) is int for rank in ranks.values()):
        raise InputError(f"{str(path)!r} must be one JSON object of module path to rank")
    config = AdapterConfig.of(ranks)
    config.check(shape)
    return config
