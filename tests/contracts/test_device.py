"""What every device keeps to. A new device joins by one line in `DEVICES`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest

from adaptare.devices import (
    Device,
    Feed,
    Program,
    ProgramError,
    SimulatedDevice,
    TorchCpu,
    Work,
    Worker,
    WorkerDiedError,
    allowed_processors,
    canonical_json,
    ort_cpu,
)
from adaptare.devices.simulated_noise import Bursts, Drift, Jitter, OpeningOffset, WarmUp

FEEDS = tuple(Feed(name, "{}", Work(3, 1000, 2000)) for name in ("short", "long"))


def program(factory: str, **arguments: int | str) -> Program:
    return Program(factory, f"worker_programs:{factory}", canonical_json(arguments), FEEDS, 1000)


GOOD = program("torch_linear", width=8)
OTHER = program("torch_linear", width=4)
STATEFUL = program("counting")
FAILING = program("raising", message="a matter of principle", when="run")
NOISE = (Jitter(0.05), Bursts(0.1, 3.0), Drift(0.1), WarmUp(5, 2.0), OpeningOffset(0.03))
FAILURES = {FAILING.hash: "error"}


@dataclass(frozen=True)
class Programs:
    """What a runtime can load; `failing` may fail as soon as it is loaded."""

    good: Program
    other: Program
    stateful: Program
    failing: Program


PYTHON = Programs(GOOD, OTHER, STATEFUL, FAILING)


def onnx_programs(folder: Path) -> Programs:
    """Squares of a matrix, and one that cannot be reshaped; ONNX files keep no state."""

    def made(name: str, nodes: str, width: int) -> Program:
        graph = f"g (float[n,n] x) => (float[a,b] y) <int64[2] seven = {{7, 7}}> {{ {nodes} }}"
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
        onnx.save(model, folder / f"{name}.onnx")
        matrix = {"dtype": "float32", "shape": [width, width], "normal": 1.0, "seed": 3}
        feeds = tuple(replace(feed, arguments=canonical_json({"inputs": {"x": matrix}})) for feed in FEEDS)
        return Program(name, str(folder / f"{name}.onnx"), "{}", feeds)

    good = made("good", "y = MatMul(x, x)", 8)
    return Programs(good, made("other", "y = Add(x, x)", 4), good, made("failing", "y = Reshape(x, seven)", 8))


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Device]
    programs: Callable[[Path], Programs] = lambda folder: PYTHON


DEVICES = [
    Case("simulated", lambda: SimulatedDevice(failures=FAILURES)),
    Case("simulated with noise", lambda: SimulatedDevice(noise=NOISE, seed=3, failures=FAILURES)),
    Case("torch-cpu", lambda: TorchCpu(threads=1, timeout_s=60)),
    Case("ort-cpu", lambda: ort_cpu(threads=1, timeout_s=60), onnx_programs),
]


@pytest.fixture(scope="module", params=DEVICES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def programs(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return case.programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def device(case: Case) -> Iterator[Device]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "worker_modules"))
        yield case.make()


@pytest.fixture(scope="module")
def worker(device: Device) -> Iterator[Worker]:
    with device.open() as opened:
        yield opened


def test_says_the_same_of_itself_twice(device: Device) -> None:
    assert device.info() == device.info()


def test_names_itself_hardware_runtime_and_threads(device: Device) -> None:
    info = device.info()
    assert all((info.device, info.hardware, info.runtime))
    assert info.threads >= 1


def test_sorts_the_options_that_change_latency(device: Device) -> None:
    options = device.info().options
    assert list(options) == sorted(options)
    assert all("=" in option for option in options)


@pytest.mark.parametrize("calls", [1, 7])
def test_gives_one_positive_time_per_call(worker: Worker, calls: int, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    times = worker.run(loaded.program_id, "short", calls)
    assert len(times) == calls
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in times)


def test_runs_every_feed_of_a_program(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    assert [len(worker.run(loaded.program_id, feed.name, 2)) for feed in FEEDS] == [2, 2]


def test_outputs_are_the_same_at_each_loading(worker: Worker, programs: Programs) -> None:
    assert worker.load(programs.good).outputs == worker.load(programs.good).outputs


def test_outputs_name_no_feed_that_the_program_lacks(worker: Worker, programs: Programs) -> None:
    assert set(worker.load(programs.good).outputs) <= {feed.name for feed in FEEDS}


def test_one_program_can_be_loaded_twice_at_once(worker: Worker, programs: Programs) -> None:
    first, second = worker.load(programs.good), worker.load(programs.good)
    worker.unload(first.program_id)
    assert len(worker.run(second.program_id, "short", 2)) == 2


def test_resident_bytes_are_not_negative(worker: Worker, programs: Programs) -> None:
    assert worker.load(programs.good).resident_bytes >= 0


def test_every_feed_has_its_seconds_of_binding_and_of_a_first_call(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    names = {feed.name for feed in FEEDS}
    assert set(loaded.bind_s) == set(loaded.first_call_s) == names
    assert min(loaded.bind_s.values()) >= 0
    assert min(loaded.first_call_s.values()) > 0
    assert sum(loaded.bind_s.values()) + sum(loaded.first_call_s.values()) <= loaded.load_s


def test_the_peak_of_memory_never_falls(worker: Worker, programs: Programs) -> None:
    first = worker.load(programs.good).peak_bytes
    assert 0 <= 0.99 * first <= worker.load(programs.other).peak_bytes


def test_says_who_runs_the_nodes(worker: Worker, programs: Programs) -> None:
    providers = worker.load(programs.good).providers
    assert sum(providers.values()) >= 1


def test_says_how_much_memory_is_free(worker: Worker) -> None:
    assert worker.info.free_bytes > 2**20


def test_says_where_it_runs_and_how_fine_its_clock_is(device: Device, worker: Worker) -> None:
    threads = device.info().threads
    assert worker.info.processors in ((), tuple(allowed_processors()[-threads:]))
    assert 0 < worker.info.timer_step_s < 1e-3


def test_refuses_to_run_what_was_unloaded(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    worker.unload(loaded.program_id)
    with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
        worker.run(loaded.program_id, "short", 1)


def test_refuses_to_unload_twice(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    worker.unload(loaded.program_id)
    with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
        worker.unload(loaded.program_id)


def test_refuses_a_feed_that_the_program_lacks(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.good)
    with pytest.raises(ProgramError, match="has no feed 'sideways'"):
        worker.run(loaded.program_id, "sideways", 1)


def test_a_failing_program_is_named_as_the_culprit(worker: Worker, programs: Programs) -> None:
    with pytest.raises(ProgramError) as caught:
        worker.run(worker.load(programs.failing).program_id, "short", 1)
    assert not isinstance(caught.value, WorkerDiedError)


def test_a_failing_program_leaves_the_others_served(worker: Worker, programs: Programs) -> None:
    other = worker.load(programs.other)
    with pytest.raises(ProgramError):
        worker.run(worker.load(programs.failing).program_id, "short", 1)
    assert len(worker.run(other.program_id, "short", 3)) == 3


def test_restores_state_between_calls(worker: Worker, programs: Programs) -> None:
    loaded = worker.load(programs.stateful)
    worker.run(loaded.program_id, "short", 3)
    assert len(worker.run(loaded.program_id, "short", 2)) == 2


def test_a_worker_serves_no_longer_than_its_context(device: Device, programs: Programs) -> None:
    with device.open() as brief:
        loaded = brief.load(programs.good)
    with pytest.raises(WorkerDiedError):
        brief.run(loaded.program_id, "short", 1)


def test_the_hash_of_a_program_ignores_its_name_and_expected_size() -> None:
    assert replace(GOOD, name="another name", weight_bytes=5).hash == GOOD.hash


@pytest.mark.parametrize(
    "change",
    [
        {"source": "worker_programs:echo"},
        {"arguments": '{"width":9}'},
        {"feeds": FEEDS[:1]},
        {"feeds": FEEDS[::-1]},
        {"feeds": (replace(FEEDS[0], arguments='{"tokens":2}'), FEEDS[1])},
    ],
    ids=["source", "arguments", "fewer feeds", "order of feeds", "content of a feed"],
)
def test_the_hash_of_a_program_changes_with_what_runs(change: dict[str, str]) -> None:
    assert replace(GOOD, **change).hash != GOOD.hash


def test_the_hash_of_a_program_is_16_hex_digits() -> None:
    assert len(GOOD.hash) == 16
    assert int(GOOD.hash, 16) >= 0


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == canonical_json({"a": None, "b": [1, 2.5]})


def test_canonical_json_is_compact() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'


def test_canonical_json_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))
