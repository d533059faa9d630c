"""Atomic file writes."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(file: Path, content: bytes | str) -> None:
    """Writes to a temporary file first and then moves it, so that an old file stays complete until it is replaced.

    Raises:
        OSError: The file is not writable; the temporary file is removed.
    """
    write_together({file: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Like `write_whole` for files that belong together: none is moved before all are written.

    Raises:
        OSError: A temporary file is not writable; the old files are unchanged.
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
