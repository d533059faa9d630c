"""Export folders, written atomically and never over unrelated files."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adaptare.core import InputError, StorageError
from adaptare.core.content_hash import Json
from adaptare.core.whole_file import remove_leftovers, replace_folder

MARK = "adaptare.json"


@contextmanager
def export_folder(folder: str | Path, *, origin: Mapping[str, Json]) -> Iterator[Path]:
    """Yields an empty folder next to `folder` that replaces it when the context ends without an error.

    Args:
        folder: Absent, empty, or an earlier export, which is then replaced.
        origin: Contents and source of the export; written to `adaptare.json`, which marks the folder as an export.

    Raises:
        InputError: The folder holds other files; it is unchanged.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    check_replaceable(folder)
    target = Path(folder).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name}-new-"
        remove_leftovers(target.parent, prefix)
        with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=target.parent) as beside:
            fresh = Path(beside) / "new"
            fresh.mkdir()
            yield fresh
            (fresh / MARK).write_text(json.dumps(origin, indent=1), encoding="utf-8")
            replace_folder(fresh, target, aside=Path(beside) / "old")
    except (OSError, SafetensorError) as error:  # the latter if a full disk ends the writing of weights
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"the export cannot be written to {str(folder)!r}: {reason}") from error


def check_replaceable(folder: str | Path, *, read: Iterable[str | Path | None] = ()) -> None:
    """Checks that a folder may be replaced by an export.

    Args:
        folder: Folder of the export.
        read: Files, folders and names of models that the export reads; `None` is ignored.

    Raises:
        InputError: The folder holds anything but an earlier export, or what is read.
    """
    target = Path(folder)
    for path in [Path(each) for each in read if each is not None and Path(each).exists()]:
        whole = path.resolve() == target.resolve()
        if whole or target.resolve() in path.resolve().parents:
            words = "is what is read" if whole else f"holds {str(path)!r}, which is read"
            raise InputError(f"{str(folder)!r} {words} and would be lost; name another folder")
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / MARK).exists())):
        raise InputError(f"{str(folder)!r} exists and is no earlier export; name another folder, or remove it")
