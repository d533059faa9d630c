"""`adaptare compare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import DEFAULT_BAND, BandOption, JsonOption
from adaptare.console import ANSWER_IS_NO, Console, command


@command
def compare(
    store: Annotated[str, typer.Argument(metavar="STORE", help="File or URL with the measurements to compare with.")],
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="What is compared.", show_default="the same store")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="As it was spelled, or its hash.", show_default="the only one")
    ] = None,
    other_device: Annotated[
        str | None, typer.Option("--other-device", help="In OTHER; may be unlike the first.", show_default="the same")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="A PEFT folder: only that adapter.", show_default="all")
    ] = None,
    other_adapter: Annotated[
        Path | None, typer.Option("--other-adapter", help="In OTHER; compared with the first.", show_default="the same")
    ] = None,
    band: BandOption = DEFAULT_BAND,
    as_json: JsonOption = False,
) -> None:
    """The same workloads in two stores or on two devices, or two adapters.

    Exit code 1 if the second is slower by more than the band for certain. On one device overheads over the base are
    compared, which repeat; on two devices latencies.
    """
    from adaptare.comparison import compare as compared
    from adaptare.comparison import counts_of, differing, of_adapter, of_device, show_compared
    from adaptare.devices import InputError
    from adaptare.profiler import Store

    console = Console(as_json=as_json)
    if other_adapter and not adapter:
        raise InputError("--other-adapter is compared with --adapter; name that too")
    if not (other or other_device or other_adapter):
        raise InputError("there is nothing to compare with; name another store, --other-device or --other-adapter")
    here, there = Store(store, create=False), Store(other or store, create=False)
    one = of_device(here.measurements(), device, here.location)
    second = of_device(there.measurements(), other_device or device, there.location)
    unlike = differing(one[0].device, second[0].device)
    if unlike and other_device is None:
        raise InputError(
            f"the devices differ in {'; '.join(unlike)}; if that is what you want to compare, name the second with "
            f"--other-device {second[0].device.device}"
        )
    if adapter:
        one = of_adapter(one, adapter, here.location)
        second = of_adapter(second, other_adapter or adapter, there.location)
    rows = compared(one, second, latencies=bool(unlike), across_adapters=adapter is not None, band=band)
    if not rows:
        raise InputError("no workload was measured in both; profile the same model, phase, mode and space in each")
    what = f"{there.location}, {second[0].device.device}{f', {other_adapter}' if other_adapter else ''}"
    show_compared(
        rows,
        console,
        title=f"{what} compared with {here.location}, {one[0].device.device}{f', {adapter}' if adapter else ''}: "
        f"{'latencies' if unlike else 'overheads over the base'}",
    )
    counts = counts_of(rows)
    compared_by = "latency" if unlike else "overhead"
    console.result({"compared": compared_by, "rows": [asdict(row) for row in rows], **counts})
    # Of many rows that are the same in truth some are slower by luck, but hardly any by the whole band.
    if any(row.difference.lower > band for row in rows):
        raise typer.Exit(ANSWER_IS_NO)
