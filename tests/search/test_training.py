import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adaptare.core import InputError, StorageError
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.file import load_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import MaskedElasticLinear
from adaptare.search.training import train as train_module
from adaptare.search.training.adapter_trainer import check_trackers
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH, TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter

Examples = Callable[[int], list[TokenExample]]
Train = Callable[..., tuple[float, ...]]
STEPS = 8
UNIFORM = TrainingStep(UniformSampler())


@pytest.fixture(scope="module")
def train_in(token_examples: Examples) -> Train:
    """Trains in a folder for a few steps, with more steps than one pass over the examples has."""

    def run(folder: Path, super_adapter: SuperAdapter, **changes: object) -> tuple[float, ...]:
        numbers = {"steps": STEPS, "batch_size": 2, "learning_rate": 1e-2, "seed": 3, "save_every": 3}
        names = {field.name for field in fields(TrainingSettings)}
        settings = TrainingSettings(**{**numbers, **{name: changes[name] for name in names & changes.keys()}})
        others = {name: change for name, change in changes.items() if name not in names}
        return train_super_adapter(super_adapter, token_examples(7), settings, folder=folder, **others)

    return run


@pytest.fixture
def train(train_in: Train, tmp_path: Path) -> Train:
    return lambda super_adapter, **changes: train_in(tmp_path / "training", super_adapter, **changes)


def fresh(tiny: SimpleNamespace) -> SuperAdapter:
    made: SuperAdapter = tiny.super_adapter(tiny.model())
    return made


def copied(super_adapter: SuperAdapter) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in super_adapter.state().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@dataclass(frozen=True)
class Run:
    """A finished training, which no test changes."""

    folder: Path
    super_adapter: SuperAdapter
    losses: tuple[float, ...]
    reports: list[tuple[int, int, float]]


@pytest.fixture(scope="module")
def whole(tiny: SimpleNamespace, train_in: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, super_adapter = tmp_path_factory.mktemp("whole"), fresh(tiny)
    super_adapter.activate(super_adapter.largest // 2)
    reports: list[tuple[int, int, float]] = []
    losses = train_in(folder, super_adapter, progress=lambda *report: reports.append(report))
    return Run(folder, super_adapter, losses, reports)


@pytest.fixture(scope="module")
def after_one_step(tiny: SimpleNamespace, train_in: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    train_in(folder, fresh(tiny), max_seconds=0.0)
    return folder


@pytest.fixture
def stopped(after_one_step: Path, tmp_path: Path) -> Path:
    """Folder of a training that was stopped after its first step, where `train` goes on; its checkpoint."""
    shutil.copytree(after_one_step, tmp_path / "training")
    return tmp_path / "training" / "checkpoint-1"


def test_a_training_leaves_base_and_configuration_as_they_were(whole: Run, tiny: SimpleNamespace) -> None:
    super_adapter, base = whole.super_adapter, tiny.model()
    assert super_adapter.model.config.to_dict() == base.config.to_dict()
    assert not super_adapter.model.training
    assert (super_adapter.active == super_adapter.largest // 2).all()
    with super_adapter.lifted():
        assert_same(super_adapter.model.state_dict(), base.state_dict())


def test_the_folder_holds_the_super_adapter_and_no_base(whole: Run, tiny: SimpleNamespace) -> None:
    assert files(whole.folder) == ["super_adapter.json", "super_adapter.safetensors", "training.json"]
    assert_same(load_super_adapter(whole.folder, tiny.model()).state(), whole.super_adapter.state())


def test_a_finished_training_is_loaded_and_not_repeated(whole: Run, tiny: SimpleNamespace, train_in: Train) -> None:
    again, steps = fresh(tiny), []
    assert train_in(whole.folder, again, progress=lambda *report: steps.append(report)) == whole.losses
    assert steps == []
    assert_same(again.state(), whole.super_adapter.state())


def test_every_step_is_reported_and_nothing_printed(
    whole: Run, tiny: SimpleNamespace, train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    assert whole.reports == [(step, STEPS, loss) for step, loss in enumerate(whole.losses, start=1)]
    assert len(whole.losses) == STEPS
    train(fresh(tiny), steps=1)
    assert capfd.readouterr() == ("", "")


def stopping(train: Train, super_adapter: SuperAdapter) -> None:
    calls = iter(range(1, 100))
    assert len(train(super_adapter, stop=lambda: next(calls) == 5)) == 5


def interrupted(train: Train, super_adapter: SuperAdapter) -> None:
    def interrupting(done: int, of: int, loss: float) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(super_adapter, progress=interrupting)


def crashed(train: Train, super_adapter: SuperAdapter) -> None:
    def crashing(done: int, of: int, loss: float) -> None:
        if done == 5:
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power failure"):
        train(super_adapter, progress=crashing)


@pytest.mark.parametrize(("end", "done"), [(stopping, 5), (interrupted, 4), (crashed, 3)])
def test_a_training_that_ended_early_goes_on_to_the_weights_of_one_run(
    end: Callable[[Train, SuperAdapter], None],
    done: int,
    whole: Run,
    tiny: SimpleNamespace,
    train: Train,
    tmp_path: Path,
) -> None:
    end(train, fresh(tiny))
    # As if it had ended while a checkpoint was written.
    (tmp_path / "training" / "checkpoint-7").mkdir()
    shutil.copytree(tmp_path / "training" / f"checkpoint-{done}", tmp_path / "training" / "checkpoint-9.bak")
    resumed, steps = fresh(tiny), []
    losses = train(resumed, progress=lambda step, of, loss: steps.append(step))
    assert steps == list(range(done + 1, STEPS + 1))
    assert_same(resumed.state(), whole.super_adapter.state())
    assert losses == pytest.approx(whole.losses)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"step": SANDWICH, "micro_batches": 2, "activation_checkpointing": True}, {"bf16": True}]
)
def test_every_way_to_compute_is_resumed(
    changes: dict[str, object], tiny: SimpleNamespace, train: Train, train_in: Train, tmp_path: Path
) -> None:
    once, resumed, calls = fresh(tiny), fresh(tiny), iter(range(1, 100))
    train_in(tmp_path / "once", once, **changes)
    train(fresh(tiny), stop=lambda: next(calls) == 5, **changes)
    train(resumed, **changes)
    assert_same(resumed.state(), once.state())


def test_in_bfloat16_it_learns_nearly_the_same_and_weights_stay_in_float32(
    whole: Run, tiny: SimpleNamespace, train: Train
) -> None:
    rounded = fresh(tiny)
    losses = train(rounded, bf16=True)
    assert losses != whole.losses
    assert np.mean(losses) == pytest.approx(np.mean(whole.losses), rel=0.1)
    assert {tensor.dtype for tensor in rounded.state().values()} == {torch.float32}
    rounded.remove()
    assert_same(rounded.model.state_dict(), tiny.model().state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "space", "changes"),
    [
        (MaskedElasticLinear, "sites", {}),
        (ElasticLinear, "subnet", {"step": SANDWICH, "activation_checkpointing": True}),
    ],
    ids=["masked", "checkpointed widths"],
)
def test_frozen_weights_that_are_cast_once_change_no_bit_of_a_training_in_bfloat16(
    tiny: SimpleNamespace,
    train_in: Train,
    layer: type[ElasticLinear],
    space: str,
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trained(name: str) -> tuple[dict[str, torch.Tensor], set[torch.dtype]]:
        model, seen = tiny.model(), set()
        made = SuperAdapter(model, tiny.space(model, space), seed=0, layer=layer)
        base = next(each.base for each in model.modules() if isinstance(each, ElasticLinear))
        noted = {**changes, "progress": lambda *_: seen.add(base.weight.dtype)}
        train_in(tmp_path / name, made, bf16=True, steps=2, **noted)
        return copied(made), seen

    at_once, types = trained("at once")
    assert types == {torch.bfloat16 if layer.separable else torch.float32}
    monkeypatch.setattr(train_module, "frozen_weights_in_bfloat16", lambda model, **options: nullcontext())
    by_autocast, types = trained("by autocast")
    assert types == {torch.float32}
    assert_same(at_once, by_autocast)


def test_each_step_has_the_configuration_of_its_number_in_every_micro_batch(
    super_adapter: SuperAdapter, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = super_adapter.model.forward

    def noting(*inputs: object, **named: object) -> object:
        seen.append(super_adapter.active)
        return forward(*inputs, **named)

    monkeypatch.setattr(super_adapter.model, "forward", noting)
    train(super_adapter, steps=4, batch_size=1, micro_batches=3, step=UNIFORM)
    numbers = (0, 0, 0, 1, 1, 1, 2, 3, 3, 3)
    expected = [UNIFORM.codes(super_adapter.space, seed=3, step=number)[0] for number in numbers]
    # The seventh example is alone in the last step of the first pass.
    assert np.array_equal(seen, expected)


def test_checkpoints_hold_no_base_weights(stopped: Path) -> None:
    assert files(stopped) == [
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "super_adapter.json",
        "super_adapter.safetensors",
        "trainer_state.json",
    ]


def test_a_folder_of_another_training_is_refused(
    stopped: Path, tiny: SimpleNamespace, train: Train, token_examples: Examples
) -> None:
    for changes, message in (
        ({"seed": 4}, "a training with seed 3, not 4"),
        ({"step": UNIFORM}, r"a training with step TrainingStep\(.*\), not TrainingStep\(sampler=UniformSampler\(\),"),
        ({"bf16": True}, "a training with bf16 False, not True"),
    ):
        with pytest.raises(InputError, match=message):
            train(fresh(tiny), **changes)
    settings = TrainingSettings(STEPS, 3, batch_size=2, learning_rate=1e-2)
    with pytest.raises(InputError, match="a training with examples"):
        train_super_adapter(fresh(tiny), token_examples(6), settings, folder=stopped.parent)


@pytest.mark.parametrize("name", ["steps", "batch_size", "micro_batches", "learning_rate"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} must be .*, not 0"):
        TrainingSettings(**{"steps": 1, "seed": 0, name: 0})


def test_a_disk_that_is_full_is_a_storage_error(
    tiny: SimpleNamespace, train: Train, train_in: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"cannot write to .*is the disk full"):
        train(fresh(tiny), save_every=1)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        train_in(tmp_path / "file" / "training", fresh(tiny))


class Bomb:
    """Runs code when it is unpickled by plain pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('code in a checkpoint was run')",)


def test_a_damaged_checkpoint_is_refused_and_code_in_it_is_not_run(
    stopped: Path, tiny: SimpleNamespace, train: Train
) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        content = (stopped / name).read_bytes()
        (stopped / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=r"the checkpoint '.*checkpoint-1' cannot be read: .*; remove it"):
            train(fresh(tiny))
        if name != "trainer_state.json":
            torch.save({"state": Bomb()}, stopped / name)
            with pytest.raises(InputError, match=r"cannot be read: Weights only load failed"):
                train(fresh(tiny))
        (stopped / name).write_bytes(content)
    assert len(train(fresh(tiny))) == STEPS


def test_trackers_get_the_loss_of_each_step_and_change_nothing(
    whole: Run, tiny: SimpleNamespace, train: Train, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    assert train(fresh(tiny), report_to=("tensorboard",)) == whole.losses
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    assert events.read_bytes().count(b"train/loss") == STEPS


@pytest.mark.parametrize(
    ("name", "words"),
    [("tensorbord", "none called 'tensorbord'; it knows .*tensorboard"), ("dvclive", "dvclive is not installed")],
)
def test_a_tracker_that_is_not_there_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_trackers([name])
