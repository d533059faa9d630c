"""Campaigns on a device that is reached by ssh, and lost while it measures."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import Store

pytestmark = [pytest.mark.ssh, pytest.mark.slow]


def test_overhead_on_a_lost_device_is_resumed_from_the_phase_that_was_lost(
    ssh_server: Callable[..., Any], tmp_path: Path, model_cache: Path, run: Callable[..., Any]
) -> None:
    server = ssh_server()
    server.add_python()
    words = [
        "overhead",
        "tiny-random",
        "--device",
        "ssh://board/ort-cpu:threads=1",
        "--rank",
        "4",
        "-p",
        "4",
        "-d",
        "4",
    ]
    words += ["--cache", str(model_cache), "--resume"]
    command = [sys.executable, "-m", "adaptare", *words, "--half-width", "0.0001%", "--seconds", "5"]
    campaign = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = next(line for line in campaign.stderr if "measuring decode" in line and "round" in line)
    server.cut()
    said += campaign.communicate()[1]
    assert campaign.returncode == 3
    assert "ssh://board: the connection was refused" in said
    kept = Store(tmp_path / "adaptare.db", create=False).measurements()
    assert {each.workload.phase for each in kept if each.complete} == {"prefill"}
    assert {each.workload.phase for each in kept if not each.complete} == {"decode"}
    assert all(each.visits for each in kept)

    server.start()
    again = run(*words, "--half-width", "50%", "--seconds", 0.5, "--json")
    assert again.code == 0, again.err
    assert {row["phase"] for row in again.json["rows"]} == {"prefill", "decode"}
    sessions = {each.session for each in kept if each.workload.phase == "prefill"}
    after = Store(tmp_path / "adaptare.db").measurements()
    assert {each.session for each in after if each.workload.phase == "prefill"} == sessions
    assert any(each.complete for each in after if each.workload.phase == "decode")


def test_devices_by_name_tell_their_facts_and_are_cleaned(
    ssh_server: Callable[..., Any], run: Callable[..., Any]
) -> None:
    server = ssh_server()
    server.add_python()
    answer = run("devices", "ssh://board/ort-cpu:int4", "--json")
    [told] = answer.json["devices"]
    assert (answer.code, told["problem"], told["name"]) == (0, "", "ssh://board/ort-cpu:int4")
    shown = run("devices", "ssh://board/ort-cpu").out
    assert {*told["info"]["hardware"].split()} <= {*shown.split()}  # a long name is folded
    kept = sum(file.stat().st_size for file in server.folder.rglob("*") if file.is_file())
    freed = run("devices", "--clean", "ssh://board/ort-cpu", "--json").json["freed_bytes"]
    assert freed["ssh://board/ort-cpu"] >= kept > 0  # whole blocks of the disk, and those of folders
    assert not server.folder.exists()
    assert run("devices", "--clean", "ssh://board/ort-cpu").out == "ssh://board/ort-cpu: 0.00 MiB freed\n"


def test_a_named_device_that_is_lost_is_a_failure(ssh_server: Callable[..., Any], run: Callable[..., Any]) -> None:
    server = ssh_server()
    server.cut()
    answer = run("devices", "ssh://board/ort-cpu", "--json")
    assert answer.code == 3
    assert "the connection was refused" in answer.json["devices"][0]["problem"]
    assert (
        "ssh://board/ort-cpu cannot be used: ssh://board: the connection was refused"
        in run("devices", "ssh://board/ort-cpu").out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clean"], "name the devices to remove files from, for example ssh://user@host/ort-cpu"),
        (["--clean", "ort-cpu"], "device 'ort-cpu': adaptare keeps no files there"),
        (["ssh://board/ort-cpu:speed=3"], "option 'speed=3' is unknown; options are "),
    ],
)
def test_what_names_no_device(run: Callable[..., Any], words: list[str], message: str) -> None:
    answer = run("devices", *words)
    assert answer.code == 2
    assert message in answer.err
