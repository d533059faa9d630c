import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.core import InputError, StorageError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, load_predictor, save_predictor
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload
from adaptare.profiler.analysis import Interval

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]
Fit = Callable[..., FittedPredictor]


@pytest.fixture(scope="module")
def other(campaign: Campaign, draw_configs: DrawConfigs, fit_without_card: Fit) -> FittedPredictor:
    return fit_without_card(campaign(draw_configs(12, 5)), level=0.8)


@pytest.fixture
def saved(predictor: FittedPredictor, tmp_path: Path) -> Path:
    save_predictor(predictor, tmp_path / "small")
    return tmp_path / "small"


def change(saved: Path, **content: Any) -> None:
    file = saved.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **content}))


def test_a_loaded_predictor_predicts_to_the_last_bit(
    predictor: FittedPredictor, saved: Path, draw_configs: DrawConfigs
) -> None:
    unseen = draw_configs(50, 1)
    before, after = predictor.predict_configs(unseen), load_predictor(saved).predict_configs(unseen)
    for name in ("mean", "lower", "upper", "extrapolates"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


KEPT = ("features", "level", "spread", "base_spread", "chosen", "reference", "base", "length", "device", "workloads")


def test_a_loaded_predictor_knows_where_it_comes_from(predictor: FittedPredictor, saved: Path) -> None:
    loaded = load_predictor(saved, device=predictor.device)
    for name in (*KEPT, "error_card"):
        assert getattr(loaded, name) == getattr(predictor, name)


def test_a_transferred_predictor_says_so_after_loading(predictor: FittedPredictor, tmp_path: Path) -> None:
    moved = replace(predictor, chosen="transferred", source=replace(predictor.device, device="other"))
    save_predictor(moved, tmp_path / "moved")
    assert load_predictor(tmp_path / "moved").source == moved.source


def test_what_files_do_not_keep_is_refused(predictor: FittedPredictor, tmp_path: Path) -> None:
    for other in (predictor.relative, predictor.recalibrated(Interval(1.0, 1.1, 1.2), 8)):
        with pytest.raises(InputError, match="is not saved; save the one that was fitted"):
            save_predictor(other, tmp_path / "other")
    assert not list(tmp_path.iterdir())


def test_the_json_file_can_be_read_by_people(predictor: FittedPredictor, saved: Path, device: SimulatedDevice) -> None:
    content = json.loads(saved.with_suffix(".json").read_text())
    assert content["schema"] == 5
    assert set(content["versions"]) == {"adaptare", "numpy", "scikit-learn"}
    assert content["device"]["options"] == list(device.info().options)
    assert list(content["features"].items())[2] == ("adapter_flops", "FLOP")
    assert content["template"]["mode"] == "swappable"
    assert len(content["workloads"]) == 32
    with pytest.raises(InputError, match="fit it again"):
        _ = load_predictor(saved).left_out


@pytest.mark.parametrize("spelling", ["model.json", "model.npz", "v1.2"])
def test_one_name_stands_for_both_files(predictor: FittedPredictor, tmp_path: Path, spelling: str) -> None:
    save_predictor(predictor, tmp_path / spelling)
    base = spelling.removesuffix(".json").removesuffix(".npz")
    assert {file.name for file in tmp_path.iterdir()} == {f"{base}.json", f"{base}.npz"}
    assert load_predictor(tmp_path / spelling).chosen == predictor.chosen
    save_predictor(predictor, str(tmp_path))
    assert {"predictor.json", "predictor.npz"} < {file.name for file in tmp_path.iterdir()}
    assert load_predictor(tmp_path).chosen == predictor.chosen


def test_saving_again_replaces_the_files(saved: Path, other: FittedPredictor, tmp_path: Path) -> None:
    save_predictor(other, saved)
    assert load_predictor(saved).error_card.rows == 12
    assert len(list(tmp_path.iterdir())) == 2


def test_a_reference_of_another_shape_comes_along(
    campaign: Campaign, draw_configs: DrawConfigs, tmp_path: Path, fit_without_card: Fit
) -> None:
    other = Workload(ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, '{"name":"reference"}'), mode="merged")
    rows = [replace(row, reference=other) for row in campaign(draw_configs(12, 0))]
    save_predictor(fit_without_card(rows), tmp_path)
    assert load_predictor(tmp_path).reference == other


def test_a_rank_correlation_of_equal_values_comes_back(
    campaign: Campaign, draw_configs: DrawConfigs, shape: ModelShape, tmp_path: Path, fit_without_card: Fit
) -> None:
    rows = campaign(draw_configs(12, 0), template=Workload(shape, mode="merged"), sigma=0)
    save_predictor(fit_without_card(rows), tmp_path)
    assert load_predictor(tmp_path).error_card.kendall_tau is None


def test_another_device_is_refused(saved: Path, device: SimulatedDevice) -> None:
    other = replace(device.info(), runtime="torch 9.9", threads=4)
    with pytest.raises(
        InputError, match=r"another device than this one: runtime .*'torch 9.9', threads 1 and 4; profile"
    ):
        load_predictor(saved, device=other)


def test_another_feature_list_is_refused(saved: Path) -> None:
    features = json.loads(saved.with_suffix(".json").read_text())["features"]
    change(saved, features={"heads": "heads", **features})
    with pytest.raises(InputError, match="other features than this version has; fit it again"):
        load_predictor(saved)


def test_two_files_that_do_not_belong_together_are_refused(saved: Path, other: FittedPredictor, tmp_path: Path) -> None:
    save_predictor(other, tmp_path / "other")
    saved.with_suffix(".npz").write_bytes((tmp_path / "other.npz").read_bytes())
    with pytest.raises(InputError, match="belongs to another predictor"):
        load_predictor(saved)


def test_an_end_between_the_two_files_leaves_the_earlier_predictor(
    saved: Path, other: FittedPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, move = load_predictor(saved), os.replace

    def end_at_the_second(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr("os.replace", lambda source, target: end_at_the_second(Path(source), Path(target)))
    with pytest.raises(KeyboardInterrupt):
        save_predictor(other, saved)
    monkeypatch.undo()
    assert np.array_equal(load_predictor(saved).residuals, before.residuals)
    save_predictor(other, saved)
    assert np.array_equal(load_predictor(saved).residuals, other.residuals)
    assert not list(saved.parent.glob(".*"))


def arrays_of(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


STATE = {"state.coefficients": np.zeros(3), "state.intercept": 1.0}
NONE = {"largest": np.empty(0)}


@pytest.mark.parametrize(
    "content",
    [
        b"nothing of the kind",
        arrays_of(**STATE, **NONE),
        arrays_of(**STATE, **NONE, feature_range=np.zeros((2, 17)), residuals=np.zeros(9)),
        arrays_of(**NONE, feature_range=np.array([{"a": 1}], dtype=object)),
    ],
    ids=[
        "no archive",
        "arrays missing",
        "a state of others",
        "objects that would have to be executed",
    ],
)
def test_arrays_that_are_not_ours_are_refused(saved: Path, content: bytes) -> None:
    saved.with_suffix(".npz").write_bytes(content)
    change(saved, arrays_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InputError, match="is damaged"):
        load_predictor(saved)


def test_an_archive_that_cannot_be_read_is_refused(saved: Path) -> None:
    content = bytearray(saved.with_suffix(".npz").read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(content)):  # each entry of the directory
        content[found.start() + 10] = 99
    saved.with_suffix(".npz").write_bytes(content)
    change(saved, arrays_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InputError, match=r"is damaged .*compression method"):
        load_predictor(saved)


@pytest.mark.parametrize("name", ["device", "template", "shapes", "error_card", "base_values", "features", "regressor"])
def test_json_with_a_part_that_is_wrong_is_refused(saved: Path, name: str) -> None:
    change(saved, **{name: ["wrong"]})
    with pytest.raises(InputError, match=rf"cannot be used: {name}"):
        load_predictor(saved)


def test_a_file_of_another_version_or_that_is_missing_is_refused(saved: Path, tmp_path: Path) -> None:
    change(saved, schema=6)
    with pytest.raises(InputError, match="has schema 6, this version reads up to 5; update adaptare"):
        load_predictor(saved)
    with pytest.raises(InputError, match=r"no predictor can be read from .*none\.json"):
        load_predictor(tmp_path / "none")


def test_a_folder_that_is_not_there_cannot_be_written(predictor: FittedPredictor, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written to .*No such file or directory"):
        save_predictor(predictor, tmp_path / "missing" / "model")


def test_a_write_that_fails_leaves_the_old_files_whole(
    saved: Path, other: FittedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        save_predictor(other, saved)
    assert load_predictor(saved).error_card.rows == 32
    assert len(list(tmp_path.iterdir())) == 2
