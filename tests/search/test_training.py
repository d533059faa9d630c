import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
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
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH, TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter

Examples = Callable[[int], list[TokenExample]]
Train = Callable[..., tuple[float, ...]]
STEPS = 8
UNIFORM = TrainingStep(UniformSampler())


@pytest.fixture
def train(token_examples: Examples, tmp_path: Path) -> Train:
    """Trains for a few steps, with more steps than one pass over the examples has."""
    folder = tmp_path / "training"

    def run(super_adapter: SuperAdapter, **changes: object) -> tuple[float, ...]:
        numbers = {"steps": STEPS, "batch_size": 2, "learning_rate": 1e-2, "seed": 3, "save_every": 3}
        names = {field.name for field in fields(TrainingSettings)}
        settings = TrainingSettings(**{**numbers, **{name: changes[name] for name in names & changes.keys()}})
        others = {name: change for name, change in changes.items() if name not in names}
        return train_super_adapter(super_adapter, token_examples(7), settings, **{"folder": folder, **others})

    return run


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


def test_loss_falls_on_what_is_learned(super_adapter: SuperAdapter, train: Train, token_examples: Examples) -> None:
    examples = token_examples(7)
    before = CompletionLoss(super_adapter, examples)(super_adapter.largest[None])
    train(super_adapter, steps=30)
    assert CompletionLoss(super_adapter, examples)(super_adapter.largest[None]) < 0.8 * before


def test_in_bfloat16_it_learns_nearly_the_same_and_weights_stay_in_float32(
    tiny: SimpleNamespace, train: Train, tmp_path: Path
) -> None:
    exact, rounded = fresh(tiny), fresh(tiny)
    losses = [
        train(each, steps=30, bf16=bf16, folder=tmp_path / str(bf16))
        for each, bf16 in ((exact, False), (rounded, True))
    ]
    assert losses[0] != losses[1]
    assert np.mean(losses[1][-7:]) == pytest.approx(np.mean(losses[0][-7:]), rel=0.1)
    assert {tensor.dtype for tensor in rounded.state().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("layer", "space", "changes"),
    [
        (ElasticLinear, "sites", {}),
        (MaskedElasticLinear, "sites", {}),
        (ElasticLinear, "subnet", {"step": SANDWICH}),
        (ElasticLinear, "subnet", {"step": SANDWICH, "activation_checkpointing": True}),
    ],
    ids=["ranks", "masked", "widths", "checkpointed"],
)
def test_frozen_weights_that_are_cast_once_change_no_bit_of_a_training_in_bfloat16(
    tiny: SimpleNamespace,
    train: Train,
    layer: type[ElasticLinear],
    space: str,
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def trained(name: str) -> dict[str, torch.Tensor]:
        model = tiny.model()
        made = SuperAdapter(model, tiny.space(model, space), seed=0, layer=layer)
        base = next(each.base for each in model.modules() if isinstance(each, ElasticLinear))
        changed = {**changes, "progress": lambda *_: seen.append(base.weight.dtype)}
        train(made, bf16=True, folder=tmp_path / name, **changed)
        return copied(made)

    at_once = trained("at once")
    assert set(seen) == {torch.bfloat16 if layer.separable else torch.float32}
    monkeypatch.setattr(train_module, "frozen_weights_in_bfloat16", lambda model, **options: nullcontext())
    seen.clear()
    assert_same(at_once, trained("by autocast"))
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("bf16", [False, True])
def test_base_weights_are_the_same_to_the_bit(tiny: SimpleNamespace, train: Train, bf16: bool) -> None:
    super_adapter = fresh(tiny)
    train(super_adapter, bf16=bf16)
    super_adapter.remove()
    assert_same(super_adapter.model.state_dict(), tiny.model().state_dict())


def test_model_and_config_are_left_as_they_were(super_adapter: SuperAdapter, train: Train) -> None:
    super_adapter.activate(super_adapter.largest // 2)
    before = super_adapter.model.config.to_dict()
    train(super_adapter)
    assert super_adapter.model.config.to_dict() == before
    assert not super_adapter.model.training
    assert (super_adapter.active == super_adapter.largest // 2).all()


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


def test_the_folder_holds_the_super_adapter_and_no_base(tiny: SimpleNamespace, train: Train, tmp_path: Path) -> None:
    super_adapter = fresh(tiny)
    train(super_adapter)
    assert files(tmp_path / "training") == ["super_adapter.json", "super_adapter.safetensors", "training.json"]
    assert_same(load_super_adapter(tmp_path / "training", tiny.model()).state(), super_adapter.state())


def test_checkpoints_hold_no_base_weights(super_adapter: SuperAdapter, train: Train, tmp_path: Path) -> None:
    train(super_adapter, max_seconds=0.0)
    (checkpoint,) = (tmp_path / "training").glob("checkpoint-*")
    assert files(checkpoint) == [
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "super_adapter.json",
        "super_adapter.safetensors",
        "trainer_state.json",
    ]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("stop_after", "changes"),
    [
        *((steps, {}) for steps in (1, 3, 5, 7)),
        (5, {"step": SANDWICH, "micro_batches": 2, "activation_checkpointing": True}),
        (5, {"bf16": True}),
    ],
)
def test_stopped_and_resumed_ends_with_the_weights_of_one_run(
    tiny: SimpleNamespace, train: Train, tmp_path: Path, stop_after: int, changes: dict[str, object]
) -> None:
    whole, parts = fresh(tiny), fresh(tiny)
    in_one = train(whole, folder=tmp_path / "whole", **changes)
    calls = iter(range(1, 100))
    first = train(parts, stop=lambda: next(calls) == stop_after, **changes)
    assert len(first) == stop_after
    resumed = fresh(tiny)
    second = train(resumed, **changes)
    assert len(second) == STEPS
    assert_same(resumed.state(), whole.state())
    assert second == pytest.approx(in_one)


def test_interrupt_saves_and_is_passed_on(tiny: SimpleNamespace, train: Train, tmp_path: Path) -> None:
    whole, parts = fresh(tiny), fresh(tiny)
    train(whole, folder=tmp_path / "whole")

    def interrupting(done: int, of: int, loss: float) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(parts, progress=interrupting)
    resumed = fresh(tiny)
    assert len(train(resumed)) == STEPS
    assert_same(resumed.state(), whole.state())


@pytest.mark.slow
def test_after_a_crash_it_goes_on_from_the_last_checkpoint(tiny: SimpleNamespace, train: Train, tmp_path: Path) -> None:
    def crashing(done: int, of: int, loss: float) -> None:
        if done == 5:
            raise RuntimeError("power failure")

    whole, done = fresh(tiny), []
    train(whole, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power failure"):
        train(fresh(tiny), progress=crashing)
    # As if it had happened while a checkpoint was written.
    (tmp_path / "training" / "checkpoint-5").mkdir()
    shutil.copytree(tmp_path / "training" / "checkpoint-3", tmp_path / "training" / "checkpoint-9.bak")
    resumed = fresh(tiny)
    train(resumed, progress=lambda step, of, loss: done.append(step))
    assert done == [4, 5, 6, 7, 8]
    assert_same(resumed.state(), whole.state())


def test_a_finished_training_is_loaded_and_not_repeated(tiny: SimpleNamespace, train: Train) -> None:
    first = fresh(tiny)
    done = train(first)
    again, steps = fresh(tiny), []
    outcome = train(again, progress=lambda step, of, loss: steps.append(step))
    assert (outcome, len(outcome), steps) == (done, STEPS, [])
    assert_same(again.state(), first.state())


def test_every_step_is_reported_and_nothing_printed(
    super_adapter: SuperAdapter, train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    reports = []
    outcome = train(super_adapter, progress=lambda *report: reports.append(report))
    assert [(done, of) for done, of, _ in reports] == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert tuple(loss for *_, loss in reports) == outcome
    assert capfd.readouterr() == ("", "")


def test_one_seed_gives_one_result(tiny: SimpleNamespace, train: Train, tmp_path: Path) -> None:
    one, same, other = fresh(tiny), fresh(tiny), fresh(tiny)
    train(one, folder=tmp_path / "one")
    train(same, folder=tmp_path / "same")
    train(other, folder=tmp_path / "other", seed=4)
    assert_same(one.state(), same.state())
    assert any(not torch.equal(one.state()[name], other.state()[name]) for name in one.state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 2e-2}, "a training with learning_rate 0.01, not 0.02"),
        ({"steps": 9}, "a training with steps 8, not 9"),
        ({"step": UNIFORM}, r"a training with step TrainingStep\(.*\), not TrainingStep\(sampler=UniformSampler\(\),"),
        ({"bf16": True}, "a training with bf16 False, not True"),
    ],
)
def test_a_folder_of_another_training_is_refused(
    tiny: SimpleNamespace, train: Train, changes: dict[str, object], message: str
) -> None:
    train(fresh(tiny), max_seconds=0.0)
    with pytest.raises(InputError, match=message):
        train(fresh(tiny), **changes)


def test_other_examples_in_the_same_folder_are_refused(
    tiny: SimpleNamespace, train: Train, token_examples: Examples, tmp_path: Path
) -> None:
    train(fresh(tiny), max_seconds=0.0)
    settings = TrainingSettings(STEPS, 3, batch_size=2, learning_rate=1e-2)
    with pytest.raises(InputError, match="a training with examples"):
        train_super_adapter(fresh(tiny), token_examples(6), settings, folder=tmp_path / "training")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"micro_batches": 0}, "micro_batches must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and below 1, not 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(
    super_adapter: SuperAdapter, train: Train, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(super_adapter, **changes)
    assert not (tmp_path / "training").exists()


def test_a_checkpoint_that_cannot_be_written_is_a_storage_error(
    super_adapter: SuperAdapter, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"cannot write to .*is the disk full"):
        train(super_adapter)


def test_a_folder_that_cannot_be_made_is_a_storage_error(
    super_adapter: SuperAdapter, train: Train, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        train(super_adapter, folder=tmp_path / "file" / "training")


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_damaged_checkpoint_is_refused(tiny: SimpleNamespace, train: Train, tmp_path: Path, name: str) -> None:
    train(fresh(tiny), max_seconds=0.0)
    (checkpoint,) = (tmp_path / "training").glob("checkpoint-*")
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"the checkpoint '.*checkpoint-1' cannot be read: .*; remove it"):
        train(fresh(tiny))


class Bomb:
    """Runs code when it is unpickled by plain pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('code in a checkpoint was run')",)


def test_code_in_a_checkpoint_is_not_run(tiny: SimpleNamespace, train: Train, tmp_path: Path) -> None:
    train(fresh(tiny), max_seconds=0.0)
    (checkpoint,) = (tmp_path / "training").glob("checkpoint-*")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        before = (checkpoint / name).read_bytes()
        torch.save({"state": Bomb()}, checkpoint / name)
        with pytest.raises(InputError, match=r"cannot be read: Weights only load failed"):
            train(fresh(tiny))
        (checkpoint / name).write_bytes(before)
    assert len(train(fresh(tiny))) == STEPS


def test_trackers_get_the_loss_of_each_step_and_change_nothing(
    tiny: SimpleNamespace, train: Train, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    plain, reported = fresh(tiny), fresh(tiny)
    losses = train(plain)
    assert train(reported, folder=tmp_path / "reported", report_to=("tensorboard",)) == losses
    assert_same(plain.state(), reported.state())
    (events,) = (tmp_path / "reported").rglob("events.out.tfevents.*")
    assert events.read_bytes().count(b"train/loss") == STEPS


@pytest.mark.parametrize(
    ("name", "words"),
    [("tensorbord", "none called 'tensorbord'; it knows .*tensorboard"), ("dvclive", "dvclive is not installed")],
)
def test_a_tracker_that_is_not_there_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_trackers([name])
