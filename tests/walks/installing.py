"""A package that registers something of these toys, as pip leaves it in a folder."""

from pathlib import Path


def installed(folder: Path, group: str, *entry_points: str) -> Path:
    """Makes the folder, which belongs on the path of Python, with a package of these entry points."""
    metadata = folder / "toys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *entry_points, ""]), encoding="utf-8")
    return folder
