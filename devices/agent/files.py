"""Program files on the device, stored by content hash and linked under their names for each program."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence

from adaptare.devices.agent.room import is_marked, make_room, note_use


class Files:
    """A folder with `files/HASH` for every file content and `programs/HASH/NAME` for every program."""

    def __init__(self, folder: str) -> None:
        self._folder, self._is_bounded = folder, is_marked(folder)
        self._contents = os.path.join(folder, "files")
        self._programs = os.path.join(folder, "programs")
        os.makedirs(self._contents, exist_ok=True)

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Digests without a stored file; room is made for those."""
        absent = self._absent(digests)
        if self._is_bounded:
            for digest in set(digests) - set(absent):
                note_use(self.content(digest))
            if absent:
                make_room(self._folder, digests)
        return absent

    def content(self, digest: str) -> str:
        """Path of the stored file with this digest."""
        if not digest.isalnum():
            raise ValueError(f"{digest!r} is no content hash")
        return os.path.join(self._contents, digest)

    def placed(self, digests: Mapping[str, str]) -> str:
        """A folder with the stored files under these names, so that files can refer to each other by name.

        Args:
            digests: File name -> content hash.

        Raises:
            FileNotFoundError: A digest has no stored file.
            ValueError: A name is not a plain file name.
        """
        absent = self._absent(list(digests.values()))
        if absent:
            raise FileNotFoundError(f"{len(absent)} of {len(digests)} files were not brought: {', '.join(absent)}")
        key = hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16]
        folder = os.path.join(self._programs, key)
        os.makedirs(folder, exist_ok=True)
        if self._is_bounded:
            for path in (folder, *map(self.content, digests.values())):
                note_use(path)
        contents = {name: os.path.realpath(self.content(digest)) for name, digest in digests.items()}
        # ONNX Runtime resolves links, and rejects data that are then outside the folder of their graph.
        alike = len(set(map(os.path.dirname, contents.values()))) == 1
        ways: list[Callable[[str, str], None]] = [os.symlink, os.link] if alike else [os.link]
        for name, content in contents.items():
            if name in ("", ".", "..") or os.path.basename(name) != name:
                raise ValueError(f"{name!r} is no plain file name")
            target = os.path.join(folder, name)
            if os.path.islink(target) and not os.path.exists(target):  # to a file that is gone
                os.unlink(target)
            if not os.path.exists(target):
                _link(content, target, ways)
        if self._is_bounded:
            note_use(folder)
        return folder

    def _absent(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in digests if not os.path.exists(self.content(digest))]


def _link(source: str, target: str, ways: Sequence[Callable[[str, str], None]]) -> None:
    """Uses the first of these ways that the system permits, else a copy, which appears whole."""
    for way in ways:
        with contextlib.suppress(OSError):
            way(source, target)
            return
    part = f"{target}.{os.getpid()}.part"
    shutil.copyfile(source, part)
    os.replace(part, target)
