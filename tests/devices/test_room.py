"""The bound on files that stay on a device, which both agents keep."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adaptare.devices.agent import room
from adaptare.devices.agent.files import Files
from adaptare.devices.native.build import bundle_for
from adaptare.devices.native.compiler import target_here

Missing = Callable[[Path, Sequence[str]], list[str]]
OPTIONS = {"provider": "CPUExecutionProvider", "spinning": True, "flush_denormals": False}
HELLO = {"seq": 1, "op": "hello", "threads": 1, "processors": [], "options": OPTIONS, "memory_bytes": 2**30}
OTHER_TAGS = ["", f"{room.SIGNATURE}\n# of another program\n", f"{room.MARK}\n{room.SIGNATURE}\n"]


def by_python(folder: Path, digests: Sequence[str]) -> list[str]:
    return Files(str(folder)).missing(digests)


def by_native(folder: Path, digests: Sequence[str]) -> list[str]:
    bundle = bundle_for(target_here())
    requests = [HELLO, {"seq": 2, "op": "missing", "digests": list(digests)}, {"seq": 3, "op": "close"}]
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    command = [*bundle.command(str(bundle.folder)), str(folder)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reply["ok"] for reply in replies] == [True, True, True], replies
    return list(replies[1]["missing"])


@pytest.fixture(params=[by_python, pytest.param(by_native, marks=pytest.mark.native)])
def missing(request: pytest.FixtureRequest) -> Missing:
    """The question of a host, put to one of the agents."""
    return request.param


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four contents of 100 bytes, last used 5, 4, 3 and 0 hours ago, each in a program; 250 bytes may stay."""
    monkeypatch.setenv(room.VARIABLE, "250")
    (tmp_path / "files").mkdir()
    (tmp_path / room.TAG).write_text(f"{room.SIGNATURE}\n{room.MARK}\n")
    for name, hours in (("e", 5), ("d", 4), ("c", 3), ("now", 0)):
        content, program = tmp_path / "files" / name, tmp_path / "programs" / f"of {name}"
        program.mkdir(parents=True)
        content.write_bytes(bytes(100))
        (program / "model.onnx").symlink_to(content)
        used(content, hours)
        used(program, hours)
    return tmp_path


def used(path: Path, hours: float) -> None:
    at = time.time() - 3600 * hours
    os.utime(path, (at, at))


def left(cache: Path, name: str = "files") -> list[str]:
    return sorted(file.name for file in (cache / name).iterdir())


def test_the_least_recently_used_go_when_others_come(missing: Missing, cache: Path) -> None:
    assert missing(cache, ["new"]) == ["new"]
    assert left(cache) == ["c", "now"]
    assert left(cache, "programs") == ["of now"]


def test_what_is_asked_for_stays_and_counts_as_used(missing: Missing, cache: Path) -> None:
    assert missing(cache, ["e", "new"]) == ["new"]
    assert left(cache) == ["e", "now"]
    assert time.time() - (cache / "files" / "e").stat().st_mtime < 600


def test_what_was_used_within_the_hour_stays_whatever_its_size(
    missing: Missing, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(room.VARIABLE, "10")
    used(cache / "files" / "d", 0.5)
    missing(cache, ["new"])
    assert left(cache) == ["d", "now"]


@pytest.mark.parametrize("bound", ["400", None])
def test_within_the_bound_nothing_goes(
    missing: Missing, cache: Path, bound: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(room.VARIABLE)
    if bound:
        monkeypatch.setenv(room.VARIABLE, bound)
    missing(cache, ["new"])
    assert left(cache) == ["c", "d", "e", "now"]
    assert len(left(cache, "programs")) == 4


def test_where_nothing_is_to_come_nothing_goes(missing: Missing, cache: Path) -> None:
    assert missing(cache, ["c"]) == []
    assert left(cache) == ["c", "d", "e", "now"]


@pytest.mark.parametrize("tag", OTHER_TAGS)
def test_a_folder_without_our_mark_loses_nothing(missing: Missing, cache: Path, tag: str) -> None:
    (cache / room.TAG).write_text(tag)
    before = (cache / "files" / "e").stat().st_mtime
    missing(cache, ["e", "new"])
    assert left(cache) == ["c", "d", "e", "now"]
    assert (cache / "files" / "e").stat().st_mtime == before


def test_a_program_that_leads_elsewhere_is_not_followed(missing: Missing, cache: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (cache / "programs" / "link").symlink_to(outside)
    os.utime(cache / "programs" / "link", (0, 0), follow_symlinks=False)
    missing(cache, ["new"])
    assert left(outside.parent, "outside") == ["precious"]


def test_what_another_agent_took_meanwhile_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is used again after the list was made, and before anything is removed."""
    listed = room._within

    def within(folder: str) -> list[room._Entry]:
        found = listed(folder)
        os.utime(cache / "files" / "e")
        return found

    monkeypatch.setattr(room, "_within", within)
    room.make_room(str(cache), ())
    assert (cache / "files" / "e").exists()
    assert not (cache / "files" / "d").exists()
