"""Files of programs on the device, and the ways in which they come there."""

import os
from pathlib import Path

import pytest

from adaptare.devices import program_file
from adaptare.devices.agent import files as module
from adaptare.devices.agent.files import Files
from adaptare.devices.transport import LocalTransport


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Holds the contents `aa` and `bb`."""
    made = Files(str(tmp_path))
    for digest in ("aa", "bb"):
        Path(made.content(digest)).write_text(digest)
    return made


def test_contents_that_are_not_there_are_missing(files: Files) -> None:
    assert files.missing(["aa", "cc", "bb", "dd"]) == ["cc", "dd"]


def test_files_out_of_several_folders_lie_in_one_without_links(tmp_path: Path, files: Files) -> None:
    """ONNX Runtime follows links and refuses data outside the folder of their graph."""
    for name in ("graph", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
        os.symlink(tmp_path / name / "content", files.content(name))
    folder = Path(files.placed({"model.onnx": "graph", "model.data": "data"}))
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"model.onnx": "graph", "model.data": "data"}
    assert not any(file.is_symlink() for file in folder.iterdir())


def test_programs_may_use_one_name_for_different_contents(files: Files) -> None:
    folders = [files.placed({"model.onnx": digest}) for digest in ("aa", "bb", "aa")]
    assert [(Path(folder) / "model.onnx").read_text() for folder in folders] == ["aa", "bb", "aa"]
    assert folders[0] == folders[2]


def test_what_was_not_brought_cannot_be_placed(files: Files) -> None:
    with pytest.raises(FileNotFoundError, match="1 of 2 files were not brought: cc"):
        files.placed({"a": "aa", "c": "cc"})


@pytest.mark.parametrize("name", ["../a", "..", ""])
def test_a_name_that_leads_elsewhere_is_refused(files: Files, name: str) -> None:
    with pytest.raises(ValueError, match="is no plain file name"):
        files.placed({name: "aa"})


@pytest.mark.parametrize("digest", ["../aa", "", "/etc"])
def test_a_digest_that_is_none_is_refused(files: Files, digest: str) -> None:
    with pytest.raises(ValueError, match="is no content hash"):
        files.missing([digest])


@pytest.mark.parametrize("refused", [(), ("symlink",), ("symlink", "link")])
def test_where_the_system_grants_no_link_contents_are_copied(
    files: Files, refused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "no links here")

    for way in refused:
        monkeypatch.setattr(module.os, way, refuse)
    placed = Path(files.placed({"a": "aa"})) / "a"
    assert placed.read_text() == "aa"
    assert placed.is_symlink() is ("symlink" not in refused)
    assert (placed.stat().st_ino == os.stat(files.content("aa")).st_ino) is ("link" not in refused)


@pytest.mark.parametrize("granted", [True, False])
def test_files_of_this_machine_are_linked_or_else_copied(
    tmp_path: Path, granted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(1, "no links here")

    (tmp_path / "a").write_text("content")
    file = program_file(tmp_path / "a")
    if not granted:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    with LocalTransport().linked("any:Runtime") as link:
        brought = Path(Files(link.command[-1]).content(file.digest))
        link.bring(file)
        assert (brought.read_text(), brought.is_symlink()) == ("content", granted)
    assert not brought.exists()


def test_a_link_whose_file_is_gone_is_replaced(tmp_path: Path) -> None:
    with LocalTransport().linked("any:Runtime") as link:
        files = Files(link.command[-1])
        for place in ("one", "two"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "a").write_text("content")
            file = program_file(tmp_path / place / "a")
            assert files.missing([file.digest]) == [file.digest]
            link.bring(file)
            assert (Path(files.placed({"model.onnx": file.digest})) / "model.onnx").read_text() == "content"
            (tmp_path / place / "a").unlink()


def test_a_local_agent_is_kept_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "stays")
    with LocalTransport().linked("any:Runtime") as link:
        told = {name: link.environment[name] for name in ("HF_HUB_OFFLINE", "ORT_DISABLE_TELEMETRY", "MINE")}
    assert told == {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "MINE": "stays"}
