"""Commands on the agent in C: on a device by adb that is lost, and the bundles that it comes in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import Store

pytestmark = pytest.mark.native
BUILD = ("devices", "agent", "--build")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """What looks like a library."""
    file = tmp_path / "libonnxruntime.so.1.30.0"
    file.write_bytes(b"\x7fELF and so on")
    return file


@pytest.mark.adb
@pytest.mark.slow
def test_a_device_by_adb_is_lost_and_the_same_command_completes_what_was_begun(
    phone: Callable[..., Any], tmp_path: Path, model_cache: Path, run: Callable[..., Any]
) -> None:
    device = phone()
    words = ["profile", "tiny-random", "--device", device.spelling, "--count", "3", "--cache", str(model_cache)]
    command = [sys.executable, "-m", "adaptare", *words, "--half-width", "0.0001%", "--seconds", "600"]
    campaign = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = next(line for line in campaign.stderr if "round" in line)
    device.kill()
    said += campaign.communicate()[1]
    assert campaign.returncode == 3
    assert f"adb:{device.serial}: it is offline" in said
    kept = Store(tmp_path / "adaptare.db", create=False).measurements()
    assert [each.complete for each in kept] == [False] * 3
    assert all(each.visits for each in kept)

    device.start()
    again = run(*words, "--half-width", "50%", "--seconds", 0.5, "--json")
    assert (again.code, again.json["measured"], again.json["already_there"]) == (0, 3, 0)
    assert run("devices", "--clean", device.spelling, "--json").json["freed_bytes"][device.spelling] > 2**20


def test_a_bundle_says_what_it_holds(run: Callable[..., Any], tmp_path: Path, library: Path) -> None:
    words = ["--target", "aarch64-linux", "--runtime-library", library, "-o", tmp_path / "bundle"]
    answer = run(*BUILD, *words, "--json")
    assert answer.code == 0, answer.err
    [bundle] = answer.json["bundles"]
    assert (bundle["target"], bundle["runtime"]) == ("aarch64-linux", "onnxruntime 1.30.0")
    assert [(file["name"], file["licence"]) for file in bundle["files"]] == [
        ("agent", "Apache-2.0"),
        (library.name, "as given"),
    ]
    assert {file["name"]: file["bytes"] for file in bundle["files"]} == {
        file.name: file.stat().st_size for file in (tmp_path / "bundle").iterdir() if file.suffix != ".json"
    }


def test_bundles_made_before_are_listed(
    run: Callable[..., Any], library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--target", "aarch64-linux"]
    assert "No bundle for aarch64-linux; make one with: adaptare devices agent --build" in run(*BUILD[:2], *words).out
    made = run(*BUILD, *words, "--runtime-library", library, "--json").json["bundles"]
    assert run(*BUILD[:2], *words, "--json").json["bundles"] == made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "abacus"], "there is no agent for 'abacus'; targets are x86_64-linux, aarch64-linux"),
        (["--runtime-library", "nothing.so"], "'nothing.so' cannot be read"),
        (["--headers", "nowhere"], "there is no onnxruntime_c_api.h in 'nowhere'"),
        (["--libraries", "nothing.deb"], "'nothing.deb' cannot be read as a Debian package"),
        (["-o", "."], "'.' is something other than a bundle; name a new folder"),
    ],
)
def test_a_bundle_that_cannot_be_made(run: Callable[..., Any], library: Path, words: list[str], message: str) -> None:
    answer = run(*BUILD, *words)
    assert answer.code == 2
    assert message in answer.err
