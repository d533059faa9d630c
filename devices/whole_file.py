"""Files that are never seen half written."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(file: Path, content: bytes | str) -> None:
    """Writes beside the file first and then moves, so that an old one stays whole until the new one is.

    Raises:
        OSError: It cannot be written; nothing is left of it then.
    """
    write_together({file: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """The same for files that belong together: none is moved before all are written.

    Raises:
        OSError: One cannot be written beside its place; the old ones stay then.
    """
    beside = {file: file.with_name(f".{file.name}.{os.getpid()}.part") for file in contents}
    try:
        for file, content in contents.items():
            with beside[file].open("wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
        for file, written in beside.items():
            os.replace(written, file)
    except BaseException:
        for written in beside.values():
            with contextlib.suppress(OSError):
                written.unlink()
        raise
