"""ONNX Runtime, with any execution provider, behind the agent in Python or the one in C."""

from collections.abc import Mapping
from functools import partial
from typing import Unpack

from adaptare.core import InputError
from adaptare.devices.agent_device import NONE, AgentDevice, AgentOptions, yes_or_no
from adaptare.devices.transport import NATIVE

RUNTIME = "adaptare.devices.agent.ort_runtime:OrtRuntime"
CPU = "CPUExecutionProvider"
XNNPACK = "XnnpackExecutionProvider"
FORMATS = ("onnx", "ort")
SHAPES = ("free", "fixed", "flat")
STYLES = ("fixed", "runtime")
# Attention and norms in one operator each; q, k and v in one product, which is split where they carry an adapter; a
# constant adapter in two products and a sum. Graphs of earlier versions were slower, and are not compared with these.
GRAPH = "packed-split-sum"


def ort(
    *,
    provider: str = CPU,
    ep: Mapping[str, str] = NONE,
    library: str = "",
    format: str = FORMATS[0],  # noqa: A002 (the name of the option)
    shapes: str = SHAPES[0],
    style: str = STYLES[0],
    spinning: bool = True,
    flush_denormals: bool = False,
    past_present_share_buffer: bool = False,
    **options: Unpack[AgentOptions],
) -> AgentDevice:
    """Device that runs ONNX files in a separate process, each as a plain `InferenceSession` with bound inputs.

    Args:
        provider: Full name of the execution provider. It must run at least one node of every loaded program; nodes that
            it does not support run on the processor, and are counted in `Loaded.providers`.
        ep: Options of the provider, as it names them; spelled `ep.NAME=VALUE`.
        library: File on the device with a provider that is a plug-in.
        format: Format of the files: `onnx`, or `ort`, which the library's builds for phones read.
        shapes: Shapes in the files: `free` sizes, so that one file serves every length and rank; `fixed` numbers, as
            some providers need; `flat`: fixed, and products of matrices in two dimensions.
        style: Optimisation of `ort` files: `fixed`: when they are made; `runtime`: partly when they are loaded, for the
            nodes that the provider leaves.
        spinning: Lets threads busy-wait for the next operator, as is the library's default.
        flush_denormals: Treats denormal numbers as zero.
        past_present_share_buffer: A call writes keys and values of its tokens into the buffer that holds the cache, as
            onnxruntime-genai does, instead of copying the whole cache to a new one.
        options: Options of `AgentDevice`.
    """
    sessions, spelled, described = session_options(provider, spinning, flush_denormals, ep=ep, library=library)
    form = file_form(format, shapes, style)
    form |= {"past_present_share_buffer": "yes"} if past_present_share_buffer else {}
    return AgentDevice(
        name="ort-mobile" if format == "ort" else "ort-cpu" if provider == CPU else "ort",
        runtime=RUNTIME,
        options={**sessions, "replay": form.get("style") == "runtime"},
        spelled={**spelled, **{name: value for name, value in form.items() if name != "format"}},
        described={**described, **form},
        **options,
    )


def ort_native(
    *,
    provider: str = CPU,
    spinning: bool = True,
    flush_denormals: bool = False,
    bundle: str = "",
    **options: Unpack[AgentOptions],
) -> AgentDevice:
    """ONNX Runtime through its C API; nothing is installed on the device. Other arguments are as for `ort`.

    Args:
        bundle: Folder of the agent in C and its libraries; default: the latest one for the device's system in the
            user's cache, and on this machine one with the installed ONNX Runtime.
    """
    sessions, spelled, described = session_options(provider, spinning, flush_denormals)
    return AgentDevice(
        name="ort-native",
        runtime=f"{NATIVE}:{bundle}",
        options=sessions,
        spelled={**spelled, **({"bundle": bundle} if bundle else {})},
        described={**described, "agent": "native"},
        **options,
    )


def session_options(
    provider: str, spinning: bool, flush_denormals: bool, *, ep: Mapping[str, str] = NONE, library: str = ""
) -> tuple[dict[str, object], dict[str, str], dict[str, str]]:
    """Options of sessions: for the agent, those that are not defaults, and all of them; see `AgentDevice`."""
    if not provider:
        raise InputError(f"provider must name an execution provider, for example {CPU}")
    given = {f"ep.{name}": value for name, value in sorted(ep.items())} | ({"library": library} if library else {})
    if given and provider == CPU:
        raise InputError(f"{', '.join(given)}: these are for other providers than {CPU}; name one by provider=NAME")
    unusual = {"provider": provider} if provider != CPU else {}
    unusual |= {} if spinning else {"spinning": "no"}
    unusual |= {"flush_denormals": "yes"} if flush_denormals else {}
    described = {
        "denormals": "flush" if flush_denormals else "keep",
        "graph": GRAPH,
        "provider": provider,
        "spinning": yes_or_no(spinning),
    }
    for_agent = {"provider": provider, "spinning": spinning, "flush_denormals": flush_denormals}
    return {**for_agent, "provider_options": dict(ep), "library": library}, unusual | given, described | given


def file_form(format: str, shapes: str, style: str) -> dict[str, str]:  # noqa: A002 (as the option is named)
    """Form of the files that a device reads, without defaults, as options that the builder of programs finds."""
    chosen = (("format", format, FORMATS), ("shapes", shapes, SHAPES), ("style", style, STYLES))
    for name, value, known in chosen:
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    if style != STYLES[0] and format != "ort":
        raise InputError(f"style={style} is for files of the ort format; use ort-mobile")
    return {name: value for name, value, known in chosen if value != known[0]}


ort_cpu = partial(ort, provider=CPU, ep=NONE, library="", format=FORMATS[0], style=STYLES[0])
"""`ort` with the kernels of the package itself, which every build has."""
ort_mobile = partial(ort, format="ort")
"""`ort` on files of the format for phones."""
ort_xnnpack = partial(
    ort, provider=XNNPACK, library="", format=FORMATS[0], style=STYLES[0], shapes="flat", spinning=False
)
"""`ort` with XNNPACK, which has threads of its own and takes products of fixed shapes in two dimensions."""
