"""`adaptare compare`."""

from dataclasses import asdict
from typing import Annotated

import typer

from adaptare.arguments import JsonOption
from adaptare.console import ANSWER_IS_NO, Console, between, command, milliseconds, percent


@command
def compare(
    store: Annotated[str, typer.Argument(metavar="STORE", help="File or URL with the measurements to compare with.")],
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="What is compared.", show_default="the same store")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="As it was when measuring.", show_default="the only one")
    ] = None,
    other_device: Annotated[
        str | None, typer.Option("--other-device", help="In OTHER; may be unlike the first.", show_default="the same")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The same workloads in two stores or on two devices; exit code 1 if one of them is slower in the second.

    On one device overheads over the base are compared, which repeat; on two devices latencies.
    """
    from adaptare.comparison import compare as compared
    from adaptare.comparison import differing, of_device
    from adaptare.devices import InputError
    from adaptare.profiler import Store

    console = Console(as_json=as_json)
    if other is None and other_device is None:
        raise InputError("there is nothing to compare with; name another store, or --other-device")
    one = of_device(Store(store, create=False).measurements(), device, store)
    there = other or store
    second = of_device(Store(there, create=False).measurements(), other_device or device, there)
    unlike = differing(one[0].device, second[0].device)
    if unlike and other_device is None:
        raise InputError(
            f"the devices differ in {'; '.join(unlike)}; if that is what you want to compare, name the second with "
            f"--other-device {second[0].device.device}"
        )
    rows = compared(one, second, latencies=bool(unlike))
    console.table(
        f"{there}, {second[0].device.device} compared with {store}, {one[0].device.device}: "
        f"{'latencies' if unlike else 'overheads over the base'}",
        ["workload", "sites", "weights", "ms", "ms there", "difference", "95 % interval", "verdict"],
        [
            [
                row.name,
                str(row.sites),
                f"{row.parameters:,}",
                milliseconds(row.one_s),
                milliseconds(row.other_s),
                percent(row.difference.middle),
                between(percent(row.difference.lower), percent(row.difference.upper)),
                row.verdict,
            ]
            for row in rows
        ],
    )
    counts = {name: sum(row.verdict == name for row in rows) for name in ("faster", "same", "slower", "ambiguous")}
    console.say(", ".join(f"{count} {name}" for name, count in counts.items() if count))
    compared_by = "latency" if unlike else "overhead"
    console.result({"compared": compared_by, "rows": [asdict(row) for row in rows], **counts})
    if counts["slower"]:
        raise typer.Exit(ANSWER_IS_NO)
