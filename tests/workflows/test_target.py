from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.devices import connect
from adaptare.profiler import Workload, open_model
from adaptare.workflows.target import named_target, target_of


@pytest.mark.parametrize(
    ("spelling", "device", "quantisation"),
    [
        ("simulated", "simulated", "none"),
        ("ort-cpu:threads=1,int8,spinning=no", "ort-cpu:threads=1,spinning=no", "int8"),
        ("torch-cpu:float32,threads=1", "torch-cpu:threads=1", "none"),
    ],
)
def test_a_spelling_names_a_device_and_how_the_base_is_quantised(spelling: str, device: str, quantisation: str) -> None:
    target = target_of(spelling)
    assert target.device.info().device == device
    assert target.quantisation == quantisation
    assert target.name == (device if quantisation == "none" else f"{device},{quantisation}")


@pytest.mark.parametrize("spelling", ["simulated:int4", "ort-cpu:threads=1"])
def test_the_name_of_a_target_is_a_spelling_of_it(spelling: str) -> None:
    assert target_of(target_of(spelling).name).name == target_of(spelling).name == spelling


def test_a_transport_stands_before_what_is_told_of_the_base() -> None:
    said = target_of("ssh://pi@board:22/ort-cpu:int4,python=adaptare/bin/python")
    assert (said.place, said.quantisation) == ("ssh://pi@board:22/ort-cpu:python=adaptare/bin/python", "int4")
    with pytest.raises(InputError, match="'q4' is none of int8, int4"):
        target_of("ssh://pi@board:22/ort-cpu:q4")


def test_other_words_are_no_quantisation() -> None:
    with pytest.raises(
        InputError,
        match="'q4' is none of int8, int4, int4-weight-only, float32, bfloat16, float16, nor an option NAME=VALUE",
    ):
        target_of("ort-cpu:q4")
    with pytest.raises(InputError, match="'none' is none of int8, int4"):
        target_of("ort-cpu:none")
    with pytest.raises(InputError, match="names two bases, int4 and bfloat16; choose one"):
        target_of("ort-cpu:int4,bfloat16")


def test_a_device_with_another_base_than_was_profiled_is_refused(model_cache: Path) -> None:
    shape = open_model("tiny-random", cache=model_cache).shape
    known, template = connect("ort-cpu:threads=1").info(), Workload(shape, quantisation="int8")
    for spelling in (None, "ort-cpu:threads=1", "ort-cpu:int8,threads=1"):
        target = named_target(spelling, known, template)
        assert (target.device.info(), target.quantisation) == (known, "int8")
    for spelling in ("ort-cpu:int4,threads=1", "ort-cpu:float32,threads=1"):
        with pytest.raises(InputError, match="has another base; the profiled one has int8 weights"):
            named_target(spelling, known, template)
    narrow = Workload(shape, dtype="bfloat16")
    assert named_target(None, known, narrow).weights == {"quantisation": "none", "dtype": "bfloat16"}
    with pytest.raises(InputError, match="has another base; the profiled one has bfloat16 weights"):
        named_target("ort-cpu:float32,threads=1", known, narrow)
