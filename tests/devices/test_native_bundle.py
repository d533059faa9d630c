"""Bundles of the agent in C: what they hold, where it comes from, and what is said if it cannot be had."""

import io
import json
import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from adaptare.core import DeviceError, InputError, MissingPackageError, StorageError
from adaptare.devices.native import build as making
from adaptare.devices.native import compiler, runtime_library
from adaptare.devices.native.build import build_bundle, bundle_for, kept_for
from adaptare.devices.native.bundle import MANIFEST, Content, read_bundle, write_bundle
from adaptare.devices.native.compiler import TARGETS, find_header, target_here, target_named, target_of
from adaptare.devices.native.runtime_library import (
    LICENCES,
    installed_library,
    library_of_file,
    library_of_wheel,
    system_libraries,
)

X86, ARM = TARGETS["x86_64-linux"], TARGETS["aarch64-linux"]
CONTENTS = {"agent": Content(b"a", "adaptare 1", "Apache-2.0"), "lib.so": Content(b"library", "somewhere", "MIT")}


def made(folder: Path | None, kept: Path, *, runtime: str = "onnxruntime 1.32.0", **more: Content):
    return write_bundle(folder, kept, ARM, {**CONTENTS, **more}, runtime=runtime, library="lib.so")


def debian_package(file: Path, names: dict[str, str | bytes]) -> Path:
    """A Debian package with these files; a name of another file is a link to it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as packed:
        for name, content in names.items():
            member = tarfile.TarInfo(f"./usr/lib/somewhere/{name}")
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                packed.addfile(member)
            else:
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    with file.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, content in parts.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))
    return file


def test_a_bundle_that_was_written_is_read(tmp_path: Path) -> None:
    bundle = made(tmp_path / "bundle", tmp_path)
    assert read_bundle(tmp_path / "bundle") == bundle
    assert (tmp_path / "bundle" / "agent").read_bytes() == b"a"
    assert os.access(tmp_path / "bundle" / "agent", os.X_OK)
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_the_same_content_has_the_same_digest_anywhere(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", tmp_path), made(tmp_path / "other", tmp_path)
    assert one.digest == other.digest
    assert made(tmp_path / "third", tmp_path, extra=Content(b"", "", "")).digest != one.digest


def test_with_a_loader_the_agent_starts_by_it(tmp_path: Path) -> None:
    without, loader = made(tmp_path / "one", tmp_path), {ARM.loader: Content(b"loader", "", "")}
    assert without.command("/there") == ["/there/agent", "/there/lib.so"]
    start = [f"/there/{ARM.loader}", "--library-path", "/there"]
    assert made(tmp_path / "two", tmp_path, **loader).command("/there") == [*start, "/there/agent", "/there/lib.so"]


def test_a_bundle_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    made(tmp_path / "bundle", tmp_path)
    assert made(tmp_path / "bundle", tmp_path, extra=Content(b"", "", "")).files[-1].name == "extra"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    for other in (tmp_path / "mine", tmp_path / "mine" / "file"):
        with pytest.raises(StorageError, match="is something other than a bundle; name a new folder"):
            made(other, tmp_path)


def test_the_latest_bundle_for_the_device_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_for(ARM) == []
    old = made(None, making._kept())
    new = made(None, making._kept(), extra=Content(b"", "", ""))
    os.utime(old.folder / MANIFEST, (1, 1))
    assert kept_for(ARM) == [new, old]
    assert bundle_for(ARM) == new


def test_without_a_bundle_the_line_that_makes_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = next(target for target in TARGETS.values() if target != target_here())
    with pytest.raises(InputError, match=f"build the agent for {other.name} first"):
        bundle_for(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "has no bundle.json; build the agent again"),
        (lambda folder: (folder / "agent").unlink(), "lacks agent; build the agent again"),
        (
            lambda folder: (folder / MANIFEST).write_text('{"schema": 1}'),
            "no manifest of a bundle: .*; build the agent",
        ),
        (lambda folder: (folder / MANIFEST).write_text('{"schema": 9}'), "has schema 9, this version reads up to 1"),
    ],
)
def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, damage, message: str) -> None:
    damage(made(tmp_path / "bundle", tmp_path).folder)
    with pytest.raises(InputError, match=message):
        bundle_for(ARM, str(tmp_path / "bundle"))


def test_a_bundle_of_another_version_is_refused_and_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    manifest = made(None, making._kept()).folder / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sources": "old"}), encoding="utf-8")
    assert kept_for(ARM) == []
    with pytest.raises(InputError, match="was made by another version of adaptare"):
        bundle_for(ARM, str(manifest.parent))


def test_a_bundle_for_another_system_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "bundle", tmp_path)
    with pytest.raises(InputError, match="is for aarch64-linux, the device is x86_64-linux"):
        bundle_for(X86, str(tmp_path / "bundle"))


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "armv7l")])
def test_systems_without_an_agent_are_told_so(system: str, machine: str) -> None:
    with pytest.raises(DeviceError, match=f"no native agent for {system} on {machine}; there is one for x86_64-linux"):
        target_of(system, machine)


def test_a_target_is_named_as_in_the_list() -> None:
    assert target_named("aarch64-linux") is target_of("Linux", "aarch64") is ARM
    with pytest.raises(InputError, match="no agent for 'arm'; targets are x86_64-linux, aarch64-linux"):
        target_named("arm")


def test_a_header_is_found_at_any_depth_or_told_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "INCLUDES", (tmp_path,))
    with pytest.raises(InputError, match="on this machine; install it with: apt-get install libonnxruntime-dev"):
        find_header(None)
    with pytest.raises(InputError, match=rf"in '{tmp_path}'"):
        find_header(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / compiler.HEADER).touch()
    assert find_header(tmp_path) == tmp_path / "a" / "b"


@pytest.mark.native
def test_a_header_that_is_none_is_told_with_the_compilers_words(tmp_path: Path) -> None:
    (tmp_path / compiler.HEADER).write_text("int x;", encoding="utf-8")
    with pytest.raises(InputError, match=r"must be of version 1.16 or later; the compiler reports: .*error: "):
        build_bundle(X86, headers=tmp_path, folder=tmp_path / "bundle")


def test_a_missing_compiler_is_told_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / compiler.HEADER).touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"install it with: pip install 'adaptare\[native\]'"):
        build_bundle(X86, headers=tmp_path)


def test_a_missing_library_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=r"install it with: pip install 'adaptare\[onnx\]', or name the file of a"
    ):
        installed_library()


def test_two_libraries_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a wheel that has one are given; give one of them"):
        build_bundle(X86, runtime_library=tmp_path / "a.so", wheel=tmp_path / "a.whl")


def test_a_library_given_tells_its_version_by_its_name(tmp_path: Path) -> None:
    for name, runtime in (("libonnxruntime.so", "onnxruntime unknown"), ("libonnxruntime.so.1.9", "onnxruntime 1.9")):
        (tmp_path / name).write_bytes(b"\x7fELF")
        assert library_of_file(tmp_path / name).runtime == runtime
    (tmp_path / "x.so").write_bytes(b"PK")
    for name, message in (("x.so", "is no program or shared library"), ("absent.so", "cannot be read")):
        with pytest.raises(InputError, match=message):
            library_of_file(tmp_path / name)


def test_a_wheel_gives_its_library(tmp_path: Path) -> None:
    wheel = tmp_path / "onnxruntime-1.31.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    wheel.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        library_of_wheel(wheel, ARM)
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("onnxruntime/capi/libonnxruntime_providers_shared.so", b"other")
    with pytest.raises(InputError, match=r"holds no libonnxruntime\.so"):
        library_of_wheel(wheel, ARM)
    with zipfile.ZipFile(wheel, "a") as packed:
        packed.writestr("onnxruntime/capi/libonnxruntime.so.1.31.0", b"library")
    library = library_of_wheel(wheel, ARM)
    assert (library.name, library.runtime) == ("libonnxruntime.so.1.31.0", "onnxruntime 1.31.0")
    assert library.content.data == b"library"
    with pytest.raises(InputError, match=r"is no wheel of onnxruntime for x86_64-linux; it is named onnxruntime-VER"):
        library_of_wheel(wheel, X86)


def test_a_wheel_that_pip_cannot_fetch_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DeviceError, match=r"pip could not fetch onnxruntime for aarch64-linux: .*name it as the wheel"):
        runtime_library.fetched_wheel(ARM, tmp_path)


def test_libraries_come_from_packages_and_folders(tmp_path: Path) -> None:
    package = debian_package(
        tmp_path / "libstdc++6_14_arm64.deb", {"libstdc++.so.6": "libstdc++.so.6.0.33", "libstdc++.so.6.0.33": b"long"}
    )
    (tmp_path / "unpacked" / "lib").mkdir(parents=True)
    for name in [ARM.loader, *LICENCES]:
        (tmp_path / "unpacked" / "lib" / name).write_bytes(name.encode())
    found = system_libraries([package, tmp_path / "unpacked"], ARM)
    assert set(found) == {ARM.loader, *LICENCES}
    assert found["libstdc++.so.6"] == Content(b"long", package.name, "GPL-3.0-or-later WITH GCC-exception-3.1")
    assert replace(found["libc.so.6"], data=b"") == Content(b"", "the folder unpacked", "LGPL-2.1-or-later")


def test_libraries_that_are_missing_are_named(tmp_path: Path) -> None:
    package = debian_package(tmp_path / "libgcc-s1.deb", {"libgcc_s.so.1": b"gcc"})
    with pytest.raises(InputError, match=r"lack ld-linux-aarch64.so.1, libc.so.6, .*'debian' to fetch libc6, libstdc"):
        system_libraries([package], ARM)


@pytest.mark.parametrize("content", [b"!<arch>\n", b"\x7fELF"])
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as a Debian package: .*; unpack it with `dpkg -x`"):
        system_libraries([tmp_path / "x.deb"], ARM)


def test_without_apt_get_the_packages_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="apt-get is not on this machine; fetch Debian's packages libc6"):
        making.fetched_packages(ARM).__enter__()


@pytest.mark.native
@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_the_agent_is_compiled_for_every_target(tmp_path: Path, target: compiler.BuildTarget) -> None:
    (tmp_path / "libonnxruntime.so.1.30.0").write_bytes(b"\x7fELF")
    bundle = build_bundle(target, folder=tmp_path / "b", runtime_library=tmp_path / "libonnxruntime.so.1.30.0")
    program = (tmp_path / "b" / "agent").read_bytes()
    machine = {"x86_64-linux": 62, "aarch64-linux": 183}[target.name]
    assert (program[:4], int.from_bytes(program[18:20], "little")) == (b"\x7fELF", machine)
    assert target.loader.encode() in program
    needed = {name for name in (b"libc.so.6", b"libdl.so.2", b"libm.so.6", b"libpthread.so.0") if name in program}
    assert b"onnxruntime.so" not in program
    assert b"libc.so.6" in needed
    assert (bundle.runtime, bundle.loader, len(bundle.files)) == ("onnxruntime 1.30.0", "", 2)


def test_an_agent_may_be_compiled_elsewhere(tmp_path: Path) -> None:
    for name in ("agent-for-android", "libonnxruntime.so"):
        (tmp_path / name).write_bytes(b"\x7fELF" + name.encode())
    bundle = build_bundle(
        ARM,
        folder=tmp_path / "bundle",
        agent=tmp_path / "agent-for-android",
        runtime_library=tmp_path / "libonnxruntime.so",
    )
    assert (tmp_path / "bundle" / "agent").read_bytes() == b"\x7fELFagent-for-android"
    assert bundle.files[0].origin == "agent-for-android, given"
