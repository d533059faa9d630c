"""The cache that adaptare keeps on a device: files appear whole or not at all, and only it removes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import DeviceError, InputError
from adaptare.devices import Program, connect
from adaptare.devices.transports.ssh import SshTransport
from adaptare.workflows.devices import cleaned

Start = Callable[..., Any]
pytestmark = pytest.mark.ssh


def test_a_file_that_does_not_arrive_unchanged_is_removed(ssh_server: Start, tmp_path: Path) -> None:
    server = ssh_server()
    (tmp_path / "content").write_text("content")
    target = server.cache / "kept" / "name"
    with (
        SshTransport(server.target).connected() as shell,
        pytest.raises(OSError, match=f"^ssh://{server.target}: its content does not arrive unchanged$"),
    ):
        shell.put(tmp_path / "content", str(target), "0" * 64)
    assert list(target.parent.iterdir()) == []


def test_arguments_of_scripts_arrive_as_they_are(ssh_server: Start) -> None:
    words = ["", "two words", "$HOME", "'", '"', "`x`", "\\", "*", "-n", "a\nb", "ü"]
    with SshTransport(ssh_server().target).connected() as shell:
        answer = shell.run('for each in "$@"; do echo "<$each>"; done; echo said >&2; exit 7', *words)
    assert (answer.code, answer.err) == (7, "said\n")
    assert answer.out == "".join(f"<{word}>\n" for word in words)


def test_cleaning_removes_what_was_sent_and_nothing_else(ssh_server: Start, square: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        outputs = worker.load(square).outputs
    (server.cache / "adaptare" / "models").mkdir()
    held = sum(file.stat().st_size for file in server.folder.rglob("*") if file.is_file() and not file.is_symlink())
    assert cleaned([server.spelling])[server.spelling] >= held > 0  # whole blocks of the disk, and those of folders
    assert [folder.name for folder in (server.cache / "adaptare").iterdir()] == ["models"]
    assert cleaned([server.spelling])[server.spelling] == 0
    with connect(server.spelling).open() as worker:
        assert worker.load(square).outputs == outputs


@pytest.mark.parametrize("tag", [None, "Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n"])
def test_a_folder_without_our_mark_is_left_alone(ssh_server: Start, tag: str | None) -> None:
    server = ssh_server()
    server.folder.mkdir(parents=True)
    (server.folder / "precious").touch()
    if tag is not None:
        (server.folder / "CACHEDIR.TAG").write_text(tag)
    with pytest.raises(DeviceError, match=f"'{server.folder}' cannot be removed: "):
        cleaned([server.spelling])
    assert (server.folder / "precious").exists()


def test_there_is_nothing_to_clean_on_this_machine() -> None:
    with pytest.raises(InputError, match="device 'ort-cpu': adaptare keeps no files there"):
        cleaned(["ort-cpu"])
