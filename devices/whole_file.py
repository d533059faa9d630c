"""Files that are never seen half written."""

import contextlib
import os
from pathlib import Path


def write_whole(file: Path, content: bytes | str) -> None:
    """Writes beside the file first and then moves, so that an old one stays whole until the new one is.

    Raises:
        OSError: It cannot be written; nothing is left of it then.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
