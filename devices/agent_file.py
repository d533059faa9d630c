"""The agent as a single file, for devices without an installation of adaptare."""

import zipfile
from pathlib import Path

from adaptare.core import StorageError

PACKAGES = ("adaptare", "adaptare/devices")
# A constant timestamp makes files with equal contents identical.
NEVER_CHANGED = (1980, 1, 1, 0, 0, 0)
START = "import runpy\n\nrunpy.run_module('adaptare.devices.agent', run_name='__main__', alter_sys=True)\n"


def write_agent(file: Path) -> None:
    """Writes the agent as a file for Python: `python FILE MODULE:RUNTIME FOLDER`.

    It needs Python 3.9 or newer and the packages of its runtime: numpy and onnxruntime for ONNX files.

    Raises:
        StorageError: The file cannot be written.
    """
    folder = Path(__file__).parent / "agent"
    contents = {f"adaptare/devices/agent/{source.name}": source.read_text("utf-8") for source in folder.glob("*.py")}
    contents |= {f"{package}/__init__.py": "" for package in PACKAGES} | {"__main__.py": START}
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in sorted(contents):
                packed.writestr(zipfile.ZipInfo(name, NEVER_CHANGED), contents[name], zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise StorageError(f"the agent cannot be written to {str(file)!r}: {error}; name another file") from error
