"""Faults: a kill, a full disk, a read-only folder, a jump of the clock, a lost device, a lying worker, damage."""

import ctypes
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from robustness_bench import Bench, Found, Steps, at_request, deny, kill, limit, results, saved_rows
from robustness_devices import lost_devices
from robustness_runs import (
    DATASET,
    DEVICE,
    MERGE,
    MODEL,
    OVERHEAD,
    REPORT,
    SEARCH,
    SHRINK,
    TRAIN,
    VERIFY,
    Before,
    start,
)

# Long commands, which are killed and denied storage at every step; the folder has earlier results of each.
LONG: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": ("profile", MODEL, "--device", DEVICE, "--count", "8", "--openings", "2", "--space", "sites"),
    "fit": ("fit", "--device", DEVICE, "-o", "predictor", "--replace"),
    "train": tuple("new" if word == "run" else word for word in TRAIN),
    "search": (*SEARCH, "-o", "front.json"),
    "verify": VERIFY,
    "export": ("export", "run", "--choice", "midpoint", "--to", "peft", "-o", "adapter"),
    "export merged": ("export", "run", "--choice", "start", "--to", "merged", "-o", "merged"),
    "overhead": OVERHEAD,
    "shrink": SHRINK,
    "check": ("check", "adapter", "--base", MODEL, "--runtime", "vllm", "--cache", "models"),  # makes the model
    "dataset export": DATASET,
    "dataset merge": MERGE,
    "report": REPORT,
    "salvage": ("store", "adaptare.db", "--salvage", "rescued.db"),
}
POINTS: Final = 8
DAY_S: Final = 86_400.0


def inject_all(bench: Bench, part: str = "") -> Found:
    """Injects the faults of one kind, or all."""
    kinds: Mapping[str, Callable[[Bench], None]] = {
        "steps": at_every_step,
        "times": at_any_time,
        "disk": small_files,
        "folder": read_only,
        "clock": clock_jumps,
        "pages": damaged_pages,
        "cuts": truncated_files,
        "two": two_processes,
        "workers": workers,
        "devices": lost_devices,
        "tune": tune,
    }
    for name, inject in kinds.items():
        if part in ("", name):
            inject(bench)
    return bench.found


def _clean(bench: Bench, words: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str], int]:
    """Results before and after a command, and the number of its changes."""
    bench.fresh()
    before = results(bench.work)
    counted = bench.place / "count"

    def count() -> Callable[[], object]:
        steps = Steps(bench.work)
        steps.install()
        return lambda: counted.write_text(str(steps.count))

    outcome = bench.run(words, count)
    if outcome.code not in (0, 1, 4):
        raise SystemExit(f"{' '.join(words)} ended with {outcome.code}: {outcome.message}")
    return before, results(bench.work), int(counted.read_text())


def _again(bench: Bench, label: str, words: tuple[str, ...]) -> None:
    """The same command goes on after a fault; a salvage that had ended does not replace its store."""
    ended = "--salvage" in words and (bench.work / words[-1]).exists()
    again = bench.run(words)
    if again.code not in ((2,) if ended else (0, 1, 4)) or again.traceback:
        bench.found.lost.append(f"{label}: again exit {again.code}, {again.message}")


def at_every_step(bench: Bench) -> None:
    """A kill, and a disk that is full from then on, at changes of files that each command makes."""
    for name, words in LONG.items():
        before, after, count = _clean(bench, words)
        points = sorted({round(point * (count - 1) / (POINTS - 1)) for point in range(POINTS)})
        for fault, act in (("killed", kill), ("disk full", deny(errno.ENOSPC))):
            for point in points:
                label = f"{name} {fault} at change {point + 1} of {count}"
                if not bench.wanted(label):
                    continue
                bench.fresh()
                steps = Steps(bench.work, point, act)
                outcome = bench.run(words, steps.install)
                bench.found.judge(label, outcome)
                bench.check(label, before, after)
                _again(bench, label, words)
                bench.check(f"{label}, again", before, after)


def at_any_time(bench: Bench) -> None:
    """A kill from outside at random times, which also strikes in the middle of a write."""
    rng = random.Random(0)
    for name, words in LONG.items():
        before, after, _ = _clean(bench, words)
        bench.fresh()
        began = time.monotonic()
        bench.run(words)
        seconds = time.monotonic() - began
        for number in range(5):
            label = f"{name} killed at a random time, {number + 1}"
            if not bench.wanted(label):
                continue
            bench.fresh()
            process = start(words, bench.work, cache=bench.cache, name="killed")
            time.sleep(rng.uniform(0.1, 1.0) * seconds)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            bench.check(label, before, after)
            _again(bench, label, words)


def small_files(bench: Bench) -> None:
    """No file may grow beyond a size, also for libraries that write on their own."""
    for name, words in LONG.items():
        before, after, _ = _clean(bench, words)
        for size in (0, 1_000, 20_000, 200_000):
            label = f"{name} with files of {size} bytes at most"
            if not bench.wanted(label):
                continue
            bench.fresh()
            outcome = bench.run(words, lambda size=size: limit(resource.RLIMIT_FSIZE, size))  # type: ignore[misc]
            if size:  # else it can say nothing
                bench.found.judge(label, outcome)
            bench.check(label, before, after)


def read_only(bench: Bench) -> None:
    """Nothing in the folder can be written."""
    for name, words in LONG.items():
        label = f"{name} in a read-only folder"
        if not bench.wanted(label):
            continue
        bench.fresh()
        before = results(bench.work)
        for path in (bench.work, *bench.work.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        outcome = bench.run(words, _without_privileges)
        for path in (bench.work, *bench.work.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        bench.found.judge(label, outcome)
        if outcome.code == 0 and name not in ("verify",):
            bench.found.unclear.append(f"{label}: exit 0")
        bench.check(label, before, None)


def _without_privileges() -> None:
    """Gives up the right of root to write where permissions do not allow it (Linux's capset)."""
    if not os.getuid():
        version, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(version, nothing):
            raise OSError(ctypes.get_errno(), "capset")


def clock_jumps(bench: Bench) -> None:
    """The clock of the day goes wrong; durations are not measured by it."""
    for name, words in LONG.items():
        before, after, _ = _clean(bench, words)
        for jump in (DAY_S, -DAY_S):
            label = f"{name} with a clock that jumps by {jump:+.0f} s"
            if not bench.wanted(label):
                continue
            bench.fresh()
            outcome = bench.run(words, lambda jump=jump: _jump(jump))  # type: ignore[misc]
            bench.found.judge(label, outcome)
            if outcome.code not in (0, 1, 4):
                bench.found.unclear.append(f"{label}: exit {outcome.code}")
            bench.check(label, before, after)


def _jump(seconds: float) -> None:
    now, calls = time.time, [0]

    def jumped() -> float:
        calls[0] += 1
        return now() + seconds * (calls[0] > 3)

    time.time = jumped


def damaged_pages(bench: Bench) -> None:
    """One page of the store is overwritten: commands say so, and all rows of other pages are salvaged."""
    bench.fresh()
    whole = saved_rows(bench.work / "adaptare.db")
    size = (bench.work / "adaptare.db").stat().st_size
    page = 4096
    for number in range(1, size // page, max(1, size // page // 24)):
        label = f"store with page {number + 1} overwritten"
        if not bench.wanted(label):
            continue
        bench.fresh()
        file = bench.work / "adaptare.db"
        content = bytearray(file.read_bytes())
        content[number * page : (number + 1) * page] = b"\xff" * page
        file.write_bytes(bytes(content))
        outcome = bench.run(("store", "adaptare.db"))
        bench.found.judge(label, outcome)
        if outcome.code == 0:
            bench.found.unclear.append(f"{label}: exit 0")
        rescued = bench.run(("store", "adaptare.db", "--salvage", "rescued.db", "--json"))
        bench.found.judge(f"{label}, salvaged", rescued)
        answer = json.loads(rescued.out)
        if "kept" not in answer and "no measurement that can be read" not in answer["error"]:
            bench.found.lost.append(f"{label}: {answer}")
        elif "kept" in answer and answer["kept"] + len(answer["lost"]) < len(whole):
            bench.found.lost.append(f"{label}: {answer['kept']} of {len(whole)} kept, {len(answer['lost'])} named")


CUT: Final[Mapping[str, tuple[str, ...]]] = {
    "adapter/adapter_config.json": ("overhead", MODEL, "adapter", "--device", DEVICE),
    "adapter/adapter_model.safetensors": ("overhead", MODEL, "adapter", "--device", DEVICE),
    "predictor.json": ("predict", "predictor", "ranks.json"),
    "predictor.npz": ("predict", "predictor", "ranks.json"),
    "front.json": ("verify", "front.json"),
    "run/super_adapter.safetensors": ("export", "front.json", "-o", "out"),
    "run/super_adapter.json": ("export", "front.json", "-o", "out"),
    "config.json": ("overhead", "config.json", "--rank", "4", "--device", DEVICE),
}


def truncated_files(bench: Bench) -> None:
    """Files that end too early, as after a copy that broke off."""
    for file, words in CUT.items():
        for share in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            label = f"{file} truncated to {share:.0%}"
            if not bench.wanted(label):
                continue
            bench.fresh()
            content = (bench.work / file).read_bytes()
            (bench.work / file).write_bytes(content[: int(share * len(content))])
            outcome = bench.run(words)
            bench.found.judge(label, outcome)
            if outcome.code != 2 or Path(file).stem not in outcome.message:
                bench.found.unclear.append(f"{label}: exit {outcome.code}, {outcome.message}")
            bench.check(label, {}, results(bench.work))


def two_processes(bench: Bench) -> None:
    """Two campaigns write to one store, and one of them is killed."""
    rng = random.Random(1)
    for number in range(6):
        label = f"two campaigns on one store, one killed, {number + 1}"
        if not bench.wanted(label):
            continue
        bench.fresh()
        words = LONG["profile"]
        others = (*words[:-1], "layers", "--mode", "merged") if number % 2 else (*words, "--seed", "1")
        processes = [
            start(each, bench.work, cache=bench.cache, name=name) for each, name in ((words, "a"), (others, "b"))
        ]
        time.sleep(rng.uniform(0.1, 1.0))
        os.kill(processes[0], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        if codes[1] != 0:
            bench.found.unclear.append(f"{label}: the other ended with {codes[1]}")
        again = bench.run(words)
        if again.code:
            bench.found.lost.append(f"{label}: again exit {again.code}, {again.message}")
        bench.check(label, results(bench.place / "prepared"), None)


REAL: Final = ("overhead", MODEL, "adapter", "--device", "torch-cpu:threads=1", "--openings", "1", "--seconds", "5")


def workers(bench: Bench) -> None:
    """Real workers that die, run out of memory, or lie."""
    for number in (1, 2, 3, 5, 8, 13):
        _with_worker(
            bench,
            f"worker killed before request {number}",
            lambda number=number: at_request(number, lambda worker: worker._process.kill()),
        )
    for size in (10**8, 10**9):
        _with_worker(bench, f"worker with {size} bytes of address space", lambda size=size: _small_worker(size))
    lies: Mapping[str, object] = {
        "NaN": float("nan"), "infinite": float("inf"), "negative": -1.0, "zero": 0.0, "text": "x", "null": None,
    }  # fmt: skip
    for name, value in lies.items():
        _with_worker(bench, f"worker that reports {name} seconds", lambda value=value: _lying([value]), rows=False)
    for name, reply in (("fewer", []), ("an object of", {}), ("text for", "junk")):
        _with_worker(bench, f"worker that reports {name} seconds", lambda reply=reply: _lying(reply), rows=False)
    for name, text in (("garbage", "garbage\n"), ("a list", "[]\n"), ("nothing", "{}\n"), ("half a line", '{"seq": 3')):
        _with_worker(bench, f"worker that answers {name}", lambda text=text: _babbling(text), rows=False)


def _with_worker(bench: Bench, label: str, before: Before, *, rows: bool = True) -> None:
    if not bench.wanted(label):
        return
    bench.fresh()
    outcome = bench.run(REAL, before)
    bench.found.judge(label, outcome)
    added = len(saved_rows(bench.work / "adaptare.db")) - len(saved_rows(bench.place / "prepared" / "adaptare.db"))
    contents = bench.run(("store", "adaptare.db"))
    if contents.code:
        bench.found.lost.append(f"{label}: {contents.message}")
    if not rows and outcome.code == 0:
        bench.found.unclear.append(f"{label}: exit 0, {added} rows")
    bench.check(label, results(bench.place / "prepared"), None)


def _small_worker(size: int) -> None:
    made = subprocess.Popen.__init__

    def limited(process: Any, *words: Any, **options: Any) -> None:
        made(process, *words, **{**options, "preexec_fn": lambda: limit(resource.RLIMIT_AS, size)})

    subprocess.Popen.__init__ = limited  # type: ignore[method-assign]


def _lying(seconds: object) -> None:
    """Replaces the seconds of each reply."""
    from adaptare.devices import agent_worker

    parsed = agent_worker.parsed_reply

    def changed(text: str) -> dict[str, Any]:
        reply = parsed(text)
        if "seconds" in reply:
            several = isinstance(seconds, list) and seconds
            reply["seconds"] = seconds * len(reply["seconds"]) if several else seconds  # type: ignore[operator]
        return reply

    agent_worker.parsed_reply = changed


def _babbling(text: str) -> None:
    from adaptare.devices import agent_worker

    parsed, count = agent_worker.parsed_reply, [0]

    def changed(reply: str) -> dict[str, Any]:
        count[0] += 1
        return parsed(text if count[0] > 4 else reply)

    agent_worker.parsed_reply = changed


TUNE: Final = ("tune", MODEL, "-o", "tuned", "--data", "data.jsonl", "--device", DEVICE, "--quick", "--steps", "4")


def tune(bench: Bench) -> None:
    """The whole path, killed at changes spread over its steps; the same command goes on."""
    _, _, count = _clean(bench, (*TUNE, "--held-out", "12"))
    for fault, act in (("killed", kill), ("disk full", deny(errno.ENOSPC))):
        for point in range(0, count, max(1, count // 7)):
            label = f"tune {fault} at change {point + 1} of {count}"
            if not bench.wanted(label):
                continue
            bench.fresh()
            shutil.rmtree(bench.work / "tuned", ignore_errors=True)
            outcome = bench.run((*TUNE, "--held-out", "12"), Steps(bench.work, point, act).install)
            bench.found.judge(label, outcome)
            _again(bench, label, (*TUNE, "--held-out", "12"))
