"""OpenVINO, on graphs with the cache in states."""

from typing import Unpack

from adaptare.core import InputError
from adaptare.devices.agent_device import AgentDevice, AgentOptions

RUNTIME = "adaptare.devices.agent.openvino_runtime:OpenvinoRuntime"
MODES = ("performance", "accuracy")
PROCESSOR = "CPU"


def openvino_cpu(
    *,
    device: str = PROCESSOR,
    execution_mode: str = MODES[0],
    inference_precision: str = "",
    kv_cache_precision: str = "",
    dynamic_quantization_group_size: str = "",
    **options: Unpack[AgentOptions],
) -> AgentDevice:
    """Device that runs graphs of OpenVINO in a separate process, with adapters as OpenVINO GenAI inserts them.

    Empty options leave a property at its default, which depends on the processor.

    Args:
        device: OpenVINO's name of its device: `CPU`, `GPU` or `NPU`.
        execution_mode: `EXECUTION_MODE_HINT`: `performance`, or `accuracy`, which rounds nothing that has more bits.
        inference_precision: `INFERENCE_PRECISION_HINT`, for example `f32`.
        kv_cache_precision: `KV_CACHE_PRECISION`, for example `f16`.
        dynamic_quantization_group_size: `DYNAMIC_QUANTIZATION_GROUP_SIZE`; 0 leaves activations in floating point.
        options: Options of `AgentDevice`; one thread by default.
    """
    if execution_mode not in MODES:
        raise InputError(f"execution_mode must be one of {', '.join(MODES)}, not {execution_mode!r}")
    chosen = {
        "execution_mode": execution_mode,
        "inference_precision": inference_precision,
        "kv_cache_precision": kv_cache_precision,
        "dynamic_quantization_group_size": str(dynamic_quantization_group_size),
    }
    properties = {
        "EXECUTION_MODE_HINT": execution_mode.upper(),
        "INFERENCE_PRECISION_HINT": inference_precision,
        "KV_CACHE_PRECISION": kv_cache_precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(dynamic_quantization_group_size),
    }
    spelled = {"device": device, **chosen}
    usual = {"device": PROCESSOR, "execution_mode": MODES[0]}
    options.setdefault("threads", 1)
    return AgentDevice(
        name="openvino-cpu",
        runtime=RUNTIME,
        options={"device": device, "properties": {name: value for name, value in properties.items() if value}},
        spelled={name: value for name, value in spelled.items() if value != usual.get(name, "")},
        described={name: value for name, value in spelled.items() if value},
        **options,
    )
