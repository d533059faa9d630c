"""From a spelling to a device, and what is said of spellings that name none."""

from types import SimpleNamespace

import pytest

from adaptare.core import InputError, spelling
from adaptare.core import extensions as extensions_of_packages
from adaptare.core.extensions import extensions
from adaptare.core.spelling import TRANSPORTS, split_options
from adaptare.devices import SimulatedDevice, connect, registry
from adaptare.devices.transport import LocalTransport


def test_a_name_alone_opens_the_device_with_its_defaults() -> None:
    assert connect("simulated").info() == SimulatedDevice().info()


def test_options_reach_the_device() -> None:
    device = connect("simulated:launch_s=1e-3,seed=4,dies_after_calls=7")
    assert isinstance(device, SimulatedDevice)
    assert (device.launch_s, device.dies_after_calls) == (0.001, 7)


def test_a_device_is_opened_again_by_what_it_says_of_itself() -> None:
    info = connect("torch-cpu:first_call=counted,gap_s=0.5,pin=yes,threads=1").info()
    assert "pin=yes" in info.options
    assert connect(info.device).info() == info


def test_an_unknown_device_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown device 'abacus'; installed .* register .*simulated, torch-cpu"):
        connect("abacus")


@pytest.mark.parametrize("option", ["speed=3", "threads", "=3"])
def test_an_unknown_option_is_answered_with_the_known_ones(option: str) -> None:
    with pytest.raises(InputError, match=f"option '{option}' is unknown; options are launch_s=…, bandwidth_bytes_s=…"):
        connect(f"simulated:{option}")


def test_a_device_has_no_format_of_weights() -> None:
    with pytest.raises(InputError, match=r"option 'int4' is unknown; .*Workload\(..., quantisation='int4'\)"):
        connect("ort-cpu:int4")


@pytest.mark.parametrize(
    ("spelling", "text", "name"),
    [
        ("torch-cpu:threads=two", "two", "threads"),
        ("torch-cpu:threads=", "", "threads"),
        ("torch-cpu:pin=maybe", "maybe", "pin"),
        ("simulated:launch_s=nan", "nan", "launch_s"),
        ("torch-cpu:timeout_s=inf", "inf", "timeout_s"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(spelling: str, text: str, name: str) -> None:
    with pytest.raises(InputError, match=f"device '{spelling}': '{text}' is no value for {name}"):
        connect(spelling)


def test_a_transport_is_unknown() -> None:
    with pytest.raises(InputError, match=r"unknown transport 'pigeon'; installed packages register .*ssh"):
        connect("pigeon:coop/torch-cpu")


@pytest.mark.parametrize(
    ("spelling", "name", "options"),
    [
        ("ort-cpu:", "ort-cpu", ""),
        ("ort-cpu:int4,threads=2", "ort-cpu", "int4,threads=2"),
        ("ort-cpu:file=/a:b/c", "ort-cpu", "file=/a:b/c"),
        ("ssh://u@h:22/ort-cpu", "ssh://u@h:22/ort-cpu", ""),
        ("ssh://u@[::1]:22/ort-cpu:int4,python=/a/b", "ssh://u@[::1]:22/ort-cpu", "int4,python=/a/b"),
        ("pigeon:coop/torch-cpu:threads=1", "pigeon:coop/torch-cpu", "threads=1"),
    ],
)
def test_options_are_what_follows_the_runtime(spelling: str, name: str, options: str) -> None:
    assert split_options(spelling) == (name, options)


def test_options_reach_the_transport_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    class Pigeon(LocalTransport):
        def __init__(self, target: str, *, wings: int = 2) -> None:
            given.extend((target, wings))
            self.name, self.options = f"pigeon:{target}", {"wings": f"{wings}"}

    pigeon = SimpleNamespace(load=lambda: Pigeon)
    for module in (extensions_of_packages, spelling):
        monkeypatch.setattr(
            module, "extensions", lambda group: {"pigeon": pigeon} if group == TRANSPORTS else extensions(group)
        )
    info = connect("pigeon:coop/torch-cpu:threads=1,wings=3").info()
    assert given == ["coop", 3]
    assert info.device == "pigeon:coop/torch-cpu:threads=1,wings=3"
    with pytest.raises(InputError, match=r"option 'target=x' is unknown; options are .*threads=….*wings=…"):
        connect("pigeon:coop/torch-cpu:target=x")
    with pytest.raises(InputError, match="'many' is no value for wings"):
        connect("pigeon:coop/torch-cpu:wings=many")


def test_a_module_may_keep_its_annotations_as_text() -> None:
    def build(threads: "int", other: "NotImported" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Of a module that imports the type of one for type checkers only."""

    def known(threads: "int") -> None:
        """All of its types can be had."""

    assert registry._signature(known).parameters["threads"].annotation is int
    assert list(registry._signature(build).parameters) == ["threads", "other"]
