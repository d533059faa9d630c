"""onnxruntime-genai, on a folder that a user has."""

from pathlib import Path
from typing import Unpack

from adaptare.core import InputError
from adaptare.core.content_hash import content_hash
from adaptare.devices.agent_device import AgentDevice, AgentOptions
from adaptare.devices.program import hashed

RUNTIME = "adaptare.devices.agent.genai_runtime:GenaiRuntime"
CONFIG = "genai_config.json"


def ort_genai(*, folder: str = "", **options: Unpack[AgentOptions]) -> AgentDevice:
    """Device that runs one folder as it is, by `onnxruntime_genai.Generator` in a separate process.

    Args:
        folder: Folder with `genai_config.json`. The settings of the folder hold, but for the number of threads.
        options: Options of `AgentDevice`.
    """
    if not folder or "," in folder:
        raise InputError(
            f"a folder of onnxruntime-genai is named like ort-genai:folder=FOLDER, without commas, not {folder!r}"
        )
    if not (Path(folder) / CONFIG).is_file():
        raise InputError(f"{folder!r} is no folder of onnxruntime-genai: it has no {CONFIG}")
    graphs = [[file.name, hashed(file)] for file in sorted(Path(folder).glob("*.onnx"))]
    identity = content_hash([hashed(Path(folder) / CONFIG), *graphs])
    return AgentDevice(
        name="ort-genai",
        runtime=RUNTIME,
        spelled={"folder": folder},
        described={"folder": folder, "graph": identity},
        **options,
    )
