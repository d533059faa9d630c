"""The same adapters on every device of this machine, side by side: overhead over rank, placement and phase.

python benchmarks/devices.py --out FOLDER [--json] [--only NAME ...] [--minutes 25] [--model smollm2-135m]
    [--figure FILE]

Prefill of 64 tokens and decode after 64, on one thread; see `device_rows.py` for adapters and ranks. Beside the devices
of this machine alone, it is its own remote device: by an ssh server, by adbd in a network of its own, and as a page in
headless Chromium, each started for this and stopped (`loopback.py` says what has to be installed). A device that cannot
be had, or measured, is listed with the reason; so are GPUs that are not there.

Each phase of a device has a share of the time that is left, and is stopped at 2.5 times that, so that the whole run
keeps to `--minutes`. Where a model is slow to bring or to prepare, it is composed from stubs. `FOLDER` keeps each phase
that was measured and its samples; the same command goes on from there, and begins with what is prepared by then.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_rows import ADAPTERS, PHASES
from loopback import AbsentError, by_adb, by_ssh, here, in_page
from stock_process import conditions, say

from adaptare.profiler.analysis import Interval

THREAD = "threads=1"
SYSTEM_PYTHON = "/usr/bin/python3"
# Of the share of one phase, for timing; the others are for starting, exporting and bringing files.
TIMED, MOST_SHARES, LEAST_S, ENDED_S = 0.45, 2.5, 1.0, 30.0
AXIS_PERCENT = (-10, 140)
PLACES = {"all": "all", "q_proj,v_proj": "q+v"}


@dataclass(frozen=True)
class Entry:
    """A device to measure.

    Args:
        name: As in the result, and as `--only` takes it.
        runtime: And its options.
        place: Starts what leads there, with a folder for its files.
        stubs: True to compose the model even where it fits: a device to which it is slow to bring, or to prepare.
    """

    name: str
    runtime: str
    place: Callable[[Path], AbstractContextManager[str]] = here
    stubs: bool = False


ENTRIES = (
    # GPUs first: the time of those that are not here is for the others.
    Entry("torch-cuda", "torch-cuda"),
    Entry("torch-mps", "torch-mps"),
    Entry("torch-xpu", "torch-xpu"),
    Entry("torch-cpu", f"torch-cpu:{THREAD}"),
    Entry("ort-cpu", f"ort-cpu:{THREAD}"),
    Entry("ort-cpu-int8", f"ort-cpu:int8,{THREAD}"),
    Entry("ort-cpu-int4", f"ort-cpu:int4,{THREAD}"),
    Entry("ort-mobile", f"ort-mobile:{THREAD}"),
    Entry("ort-native", f"ort-native:{THREAD}"),
    Entry("ssh-python", f"ort-cpu:{THREAD}", by_ssh, stubs=True),
    Entry("ssh-native", f"ort-native:{THREAD}", by_ssh, stubs=True),
    Entry("adb-native", f"ort-native:{THREAD}", by_adb, stubs=True),
    Entry("llama-cpu-int4", f"llama-cpu:int4,{THREAD}"),
    Entry("openvino-cpu-int4", f"openvino-cpu:int4,{THREAD}"),
    Entry("browser", f"ort-web:{THREAD}", in_page, stubs=True),
    Entry("browser-2-threads", "ort-web:threads=2", in_page, stubs=True),
    # Those that take longest to prepare last, with the time that the others left.
    Entry("ort-xnnpack", f"ort-xnnpack:python={SYSTEM_PYTHON},{THREAD}", stubs=True),
    Entry("torch-cpu-compiled", f"torch-cpu:compile=yes,{THREAD}", stubs=True),
)


class StoppedError(Exception):
    """A phase without a result; the message says why."""


class RefusedError(StoppedError):
    """A phase that the device refuses; it is not asked for another one."""


@dataclass(frozen=True)
class Shares:
    """Time left until a deadline, shared by phases that are still to be measured.

    Args:
        deadline_s: By `time.monotonic`.
        left: Number of those phases.
    """

    deadline_s: float
    left: int

    def share_s(self) -> float:
        """Seconds for one of them, if all take equally long."""
        return max(0.0, self.deadline_s - time.monotonic()) / max(1, self.left)

    def most_s(self) -> float:
        """Seconds after which one is stopped."""
        return self.share_s() * min(MOST_SHARES, max(1, self.left))

    def after(self, phases: int) -> "Shares":
        """When so many of them are through."""
        return Shares(self.deadline_s, self.left - phases)


def phase_file(out: Path, name: str, phase: str) -> Path:
    """Result of one phase of a device."""
    return out / f"{name}-{phase}.json"


def missing(out: Path, entry: Entry) -> list[str]:
    """Phases that are still to be measured."""
    return [phase for phase in PHASES if not phase_file(out, entry.name, phase).exists()]


def measured(entry: Entry, out: Path, model: str, shares: Shares) -> dict[str, Any]:
    """One device: what `out` has of it, and what is measured now; with the reasons of what is missing."""
    todo, why = missing(out, entry), []
    if todo:
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, entry.place(Path(folder)) as place:
                for number, phase in enumerate(todo):
                    try:
                        measure(entry, place + entry.runtime, phase, out, model, shares.after(number))
                    except StoppedError as error:
                        why.append(str(error))
                        if isinstance(error, RefusedError):
                            break
        except (AbsentError, OSError, AssertionError) as error:  # of services, which tests share
            why.append(str(error) or type(error).__name__)
    files = [file for phase in PHASES if (file := phase_file(out, entry.name, phase)).exists()]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    rows = [row for each in found for row in each["rows"]]
    reasons = dict.fromkeys([*why, *filter(None, (each["why"] for each in found))])
    return {"name": entry.name, "available": bool(rows), "why": "; ".join(reasons), "rows": rows}


def measure(entry: Entry, spelling: str, phase: str, out: Path, model: str, shares: Shares) -> None:
    """Writes the result of one phase. Raises `StoppedError`."""
    seconds, limit_s = TIMED * shares.share_s(), shares.most_s()
    if seconds < LEAST_S:
        raise StoppedError("the time was up; the same command goes on")
    say(f"{entry.name}, {phase}: {seconds:.0f} s, at most {limit_s:.0f} s")
    file = phase_file(out, entry.name, phase)
    command = [sys.executable, str(Path(__file__).with_name("device_rows.py")), spelling, phase, "--model", model]
    command += ["--seconds", f"{seconds:.0f}", "--store", str(file.with_suffix(".db"))]
    said = ended([*command, *(["--stubs"] if entry.stubs else [])], limit_s)
    whole = file.with_suffix(".part")
    whole.write_text(said, encoding="utf-8")
    whole.replace(file)


def ended(command: Sequence[str], limit_s: float) -> str:
    """Output of a command that succeeds in time; else `StoppedError`, and nothing of it runs on."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        started = {"stdout": subprocess.PIPE, "stderr": errors, "text": True, "start_new_session": True}
        with subprocess.Popen(command, **started) as process:
            try:
                said, _ = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise StoppedError(f"no result within {limit_s:.0f} s") from None
            finally:
                stop(process)
        errors.seek(0)
        last = [line.strip() for line in errors if line.strip()][-1:]
    if process.returncode:
        raise RefusedError(last[0] if last else f"exit code {process.returncode}")
    return said


def stop(process: "subprocess.Popen[str]") -> None:
    """As by Ctrl-C, which ends workers too; then for certain."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDED_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(devices: Iterable[dict[str, Any]]) -> str:
    """Markdown: a line for each device and phase, with the overhead of swappable adapters by placement and rank."""
    heads = [f"{PLACES[sites]}, r = {rank}" for sites, rank in ADAPTERS]
    lines = [f"| device | phase | base, ms | {' | '.join(heads)} |", "|---" * (3 + len(ADAPTERS)) + "|"]
    absent = []
    for device in devices:
        for phase in dict.fromkeys(row["phase"] for row in device["rows"]):
            rows = {(row["sites"], row["rank"]): row for row in device["rows"] if row["phase"] == phase}
            base = rows["none", 0]
            name = device["name"] + " (composed)" * (base["origin"] == "composed")
            cells = [cell(rows[key]) if key in rows else "" for key in ADAPTERS]
            lines.append(f"| {name} | {phase} | {1e3 * base['latency_s']:.1f} | {' | '.join(cells)} |")
        if device["why"]:
            absent.append(f"- {device['name']}: {device['why']}")
    return "\n".join([*lines, "", *absent])


def cell(row: dict[str, Any]) -> str:
    """Overhead in per cent, with its interval where there were enough openings for one."""
    found = Interval(row["lower"], row["overhead"], row["upper"])
    ends = found.ends(lambda share: f"{100 * share:.1f}", too_few_openings=row["too_few_openings"])
    return f"{100 * found.middle:+.1f} {ends}"


def draw(devices: Sequence[dict[str, Any]], file: Path) -> None:
    """One panel for each phase: overhead of swappable adapters on all linears, by device and rank."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ranks = [rank for sites, rank in ADAPTERS if sites == "all"]
    shown = [device for device in devices if device["rows"]]
    figure, axes = pyplot.subplots(1, len(PHASES), figsize=(11, 1.5 + 0.4 * len(shown)), sharey=True)
    for axis, phase in zip(axes, PHASES, strict=True):
        for number, rank in enumerate(ranks):
            key = ("all", phase, rank)
            points = [
                (place + 0.2 * (number - 1), row)
                for place, device in enumerate(shown)
                for row in device["rows"]
                if (row["sites"], row["phase"], row["rank"]) == key
            ]
            ends = [
                [100 * (row["overhead"] - row["lower"]), 100 * (row["upper"] - row["overhead"])] for _, row in points
            ]
            axis.errorbar(
                [100 * row["overhead"] for _, row in points],
                [place for place, _ in points],
                xerr=[[max(0.0, low) for low, _ in ends], [max(0.0, high) for _, high in ends]],
                fmt="o",
                markersize=4,
                capsize=2,
                label=f"rank {rank}",
            )
        axis.axvline(0, color="grey", linewidth=0.8)
        xlabel = "overhead on all linears, % (longer intervals are cut)"
        axis.set(title=phase, xlabel=xlabel, xlim=AXIS_PERCENT, yticks=range(len(shown)))
        axis.set_yticklabels([device["name"] for device in shown])
    axes[0].invert_yaxis()
    axes[-1].legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [entry.name for entry in ENTRIES]
    parser.add_argument("--out", type=Path, required=True, help="folder that keeps what was measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", default=names, help=f"of {'; '.join(names)}"
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="for all devices together")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in ENTRIES if entry.name in options.only]
    deadline_s = time.monotonic() + 60 * options.minutes
    devices = []
    for number, entry in enumerate(entries):
        left = sum(len(missing(options.out, each)) for each in entries[number:])
        devices.append(measured(entry, options.out, options.model, Shares(deadline_s, left)))
    if options.figure:
        draw(devices, options.figure)
    print(json.dumps({**conditions(1), "devices": devices}) if options.json else table(devices))


if __name__ == "__main__":
    main()
