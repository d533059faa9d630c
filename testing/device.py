"""Suite of a device: its worker loads, times and unloads programs, and tells facts of itself."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from adaptare.core import ProgramError, WorkerDiedError
from adaptare.devices import (
    AttributingWorker,
    Device,
    Feed,
    ForgettingWorker,
    ForkingWorker,
    MeteredWorker,
    Program,
    WatchedWorker,
    Work,
    Worker,
)

FEEDS = tuple(Feed(name, "{}", Work(3, 1000, 2000)) for name in ("short", "long"))


@dataclass(frozen=True)
class DevicePrograms:
    """Programs that a device can load, each with the feeds `FEEDS`, named `short` and `long`.

    Args:
        good: A program whose outputs are the same in every call.
        other: Another one.
        stateful: A program whose call fails unless its state was restored; `good` where programs keep no state.
        failing: A program that fails when it is called, or already when it is loaded.
    """

    good: Program
    other: Program
    stateful: Program
    failing: Program


class DeviceSuite:
    """Tests of a device.

    Fixtures to define, with `scope="class"`, since one worker serves all tests:
        device: The `Device`.
        programs: `DevicePrograms` for it; `onnx_programs` makes them for a device that loads ONNX files.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def worker(cls, device: Device) -> Iterator[Worker]:
        """A worker of the device."""
        with device.open() as opened:
            yield opened

    def test_says_the_same_of_itself_twice(self, device: Device) -> None:
        assert device.info() == device.info()

    def test_names_itself_hardware_runtime_and_threads(self, device: Device) -> None:
        info = device.info()
        assert all((info.device, info.hardware, info.runtime))
        assert info.threads >= 1

    def test_sorts_the_options_that_change_latency(self, device: Device) -> None:
        options = device.info().options
        assert list(options) == sorted(options)
        assert all("=" in option for option in options)

    @pytest.mark.parametrize("calls", [1, 7])
    def test_gives_one_positive_time_per_call(self, worker: Worker, calls: int, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.good)
        times = worker.run(loaded.program_id, "short", calls)
        assert len(times) == calls
        assert all(isinstance(seconds, float) and seconds > 0 for seconds in times)

    def test_runs_every_feed_of_a_program(self, worker: Worker, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.good)
        assert [len(worker.run(loaded.program_id, feed.name, 2)) for feed in FEEDS] == [2, 2]

    def test_outputs_are_the_same_at_each_loading(self, worker: Worker, programs: DevicePrograms) -> None:
        assert worker.load(programs.good).outputs == worker.load(programs.good).outputs

    def test_outputs_name_no_feed_that_the_program_lacks(self, worker: Worker, programs: DevicePrograms) -> None:
        assert set(worker.load(programs.good).outputs) <= {feed.name for feed in FEEDS}

    def test_one_program_can_be_loaded_twice_at_once(self, worker: Worker, programs: DevicePrograms) -> None:
        first, second = worker.load(programs.good), worker.load(programs.good)
        worker.unload(first.program_id)
        assert len(worker.run(second.program_id, "short", 2)) == 2

    def test_resident_bytes_are_not_negative(self, worker: Worker, programs: DevicePrograms) -> None:
        assert worker.load(programs.good).resident_bytes >= 0

    def test_every_feed_has_its_seconds_of_binding_and_of_a_first_call(
        self, worker: Worker, programs: DevicePrograms
    ) -> None:
        loaded = worker.load(programs.good)
        names = {feed.name for feed in FEEDS}
        assert set(loaded.bind_s) == set(loaded.first_call_s) == names
        assert min(loaded.bind_s.values()) >= 0
        assert min(loaded.first_call_s.values()) > 0  # 0 would be a clock too coarse for one call
        assert sum(loaded.bind_s.values()) + sum(loaded.first_call_s.values()) <= loaded.load_s

    def test_the_peak_of_memory_never_falls(self, worker: Worker, programs: DevicePrograms) -> None:
        first = worker.load(programs.good).peak_bytes
        assert 0 <= 0.99 * first <= worker.load(programs.other).peak_bytes

    def test_says_who_runs_the_nodes(self, worker: Worker, programs: DevicePrograms) -> None:
        providers = worker.load(programs.good).providers
        assert sum(providers.values()) >= 1

    def test_says_how_much_memory_is_free(self, worker: Worker) -> None:
        assert worker.info.free_bytes > 2**20

    def test_the_device_tells_its_memory_too(self, device: Device) -> None:
        assert device.capacity_bytes() > 2**20

    def test_says_where_it_runs_and_how_fine_its_clock_is(self, device: Device, worker: Worker) -> None:
        assert worker.info.processors == () or len(worker.info.processors) >= device.info().threads
        assert 0 < worker.info.timer_step_s < 1e-3

    def test_device_and_worker_tell_the_same(self, device: Device, worker: Worker) -> None:
        of_device, of_worker = device.info(), worker.info
        for name in ("hardware", "runtime", "threads", "cache_bytes"):
            assert getattr(of_device, name) == getattr(of_worker, name)

    def test_its_environment_can_be_stored(self, worker: Worker) -> None:
        environment = dict(worker.info.environment)
        assert json.loads(json.dumps(environment)) == environment

    @pytest.mark.parametrize(
        ("capability", "ask"),
        [
            ("attribution", lambda worker, program: isinstance(worker, AttributingWorker)),
            ("energy", lambda worker, program: isinstance(worker, MeteredWorker) and _counts(worker.energy_j())),
            ("environment", lambda worker, program: isinstance(worker, WatchedWorker) and bool(worker.environment())),
            (
                "forget",
                lambda worker, program: isinstance(worker, ForgettingWorker) and worker.forget(program) in (0, 1),
            ),
            ("fork", lambda worker, program: isinstance(worker, ForkingWorker)),
        ],
    )
    def test_it_can_do_what_it_says_it_can(
        self, worker: Worker, programs: DevicePrograms, capability: str, ask: Callable[[Worker, Program], bool]
    ) -> None:
        assert capability not in worker.info.capabilities or ask(worker, programs.good)

    def test_refuses_to_run_what_was_unloaded(self, worker: Worker, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.good)
        worker.unload(loaded.program_id)
        with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
            worker.run(loaded.program_id, "short", 1)

    def test_refuses_to_unload_twice(self, worker: Worker, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.good)
        worker.unload(loaded.program_id)
        with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
            worker.unload(loaded.program_id)

    def test_refuses_a_feed_that_the_program_lacks(self, worker: Worker, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.good)
        with pytest.raises(ProgramError, match="has no feed 'sideways'"):
            worker.run(loaded.program_id, "sideways", 1)

    def test_a_failing_program_is_named_as_the_culprit(self, worker: Worker, programs: DevicePrograms) -> None:
        with pytest.raises(ProgramError) as caught:
            worker.run(worker.load(programs.failing).program_id, "short", 1)
        assert not isinstance(caught.value, WorkerDiedError)

    def test_a_failing_program_leaves_the_others_served(self, worker: Worker, programs: DevicePrograms) -> None:
        other = worker.load(programs.other)
        with pytest.raises(ProgramError):
            worker.run(worker.load(programs.failing).program_id, "short", 1)
        assert len(worker.run(other.program_id, "short", 3)) == 3

    def test_restores_state_between_calls(self, worker: Worker, programs: DevicePrograms) -> None:
        loaded = worker.load(programs.stateful)
        worker.run(loaded.program_id, "short", 3)
        assert len(worker.run(loaded.program_id, "short", 2)) == 2

    def test_a_fork_answers_as_the_first_process_does_without_its_programs(
        self, device: Device, worker: Worker, programs: DevicePrograms
    ) -> None:
        if "fork" not in worker.info.capabilities:
            return
        loaded = worker.load(programs.good)
        with device.open() as forking:
            assert isinstance(forking, ForkingWorker)
            assert forking.fork(programs.good)
            in_fork = forking.load(programs.good)
            assert in_fork.outputs == loaded.outputs
            assert forking.fork(programs.good)
            with pytest.raises(ProgramError):
                forking.unload(in_fork.program_id)
            with pytest.raises(ProgramError):
                forking.run(forking.load(programs.failing).program_id, "short", 1)
            assert forking.load(programs.good).outputs == loaded.outputs

    def test_a_worker_serves_no_longer_than_its_context(self, device: Device, programs: DevicePrograms) -> None:
        with device.open() as brief:
            loaded = brief.load(programs.good)
        with pytest.raises(WorkerDiedError):
            brief.run(loaded.program_id, "short", 1)


def _counts(energy_j: float | None) -> bool:
    return energy_j is not None and energy_j >= 0
