from pathlib import Path

import pytest

from adaptare.devices import InputError, connect
from adaptare.profiler import Workload, open_model
from adaptare.target import named_target, target_of


@pytest.mark.parametrize(
    ("spelling", "device", "quantisation"),
    [
        ("simulated", "simulated", "none"),
        ("ort-cpu:int4,threads=1", "ort-cpu:threads=1", "int4"),
        ("ort-cpu:threads=1,int8,spinning=no", "ort-cpu:threads=1,spinning=no", "int8"),
        ("torch-cpu:threads=1", "torch-cpu:threads=1", "none"),
    ],
)
def test_a_spelling_names_a_device_and_how_the_base_is_quantised(spelling: str, device: str, quantisation: str) -> None:
    target = target_of(spelling)
    assert target.device.info().device == device
    assert target.quantisation == quantisation
    assert target.name == (device if quantisation == "none" else f"{device},{quantisation}")


def test_where_loading_anew_matters_is_known_by_the_runtime() -> None:
    assert target_of("ort-cpu:threads=1").reloading_matters
    assert not target_of("torch-cpu:threads=1").reloading_matters


def test_other_words_are_no_quantisation() -> None:
    with pytest.raises(InputError, match="option 'int5' is unknown"):
        target_of("ort-cpu:int5")
    with pytest.raises(InputError, match="option 'none' is unknown"):
        target_of("ort-cpu:none")


def test_a_device_with_another_base_than_was_profiled_is_refused(model_cache: Path) -> None:
    shape = open_model("tiny-random", cache=model_cache).shape
    known, template = connect("ort-cpu:threads=1").info(), Workload(shape, quantisation="int8")
    assert named_target(None, known, template).info() == known
    assert named_target("ort-cpu:threads=1", known, template).info() == known
    assert named_target("ort-cpu:int8,threads=1", known, template).info() == known
    with pytest.raises(InputError, match="has another base; what was profiled has int8 weights"):
        named_target("ort-cpu:int4,threads=1", known, template)
