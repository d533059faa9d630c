"""What the agent answers, in this process and on a clock made by hand."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices.agent import machine, memory, server
from adaptare.devices.agent.machine import Machine
from adaptare.devices.agent.place import Host
from adaptare.devices.agent.server import Agent, sample_output

MakeAgent = Callable[..., Agent]

LOAD = {"op": "load", "program_id": "p", "source": "", "arguments": {}, "files": {}, "feeds": []}
LOAD |= {"moved_bytes": 80, "others_bytes": 0, "between_bytes": 0}
ONE_FEED = {**LOAD, "feeds": [{"name": "f", "arguments": {}}]}
HELLO = {"threads": 1, "pin": False, "gap_s": None, "options": {}, "memory_bytes": 0}


def model(bind: Callable[..., Any] | None = None) -> Any:
    return SimpleNamespace(bind=bind, nodes=dict)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Lets time pass, and hands on an answer."""
    passed = [0.0]

    def takes(seconds: float, answer: Any = None) -> Any:
        passed[0] += seconds
        return answer

    monkeypatch.setattr(time, "perf_counter", lambda: passed[0])
    return takes


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made, without making them."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def answers(agent: Agent, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    replies = io.StringIO()
    server.serve(agent, [json.dumps(request) for request in requests], replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_the_end_is_an_explicit_message(make_agent: MakeAgent) -> None:
    requests = [{"seq": 9, "op": "close"}, {"seq": 10, "op": "close"}]
    assert answers(make_agent(), *requests) == [{"seq": 9, "ok": True, "end": True}]


def test_the_end_of_requests_ends_the_agent_without_a_message(make_agent: MakeAgent) -> None:
    assert answers(make_agent()) == []


def test_every_reply_repeats_the_number_of_its_request(make_agent: MakeAgent) -> None:
    replies = answers(make_agent(), *({"seq": number, "op": "unload", "program_id": "x"} for number in (4, 8, 2)))
    assert [reply["seq"] for reply in replies] == [4, 8, 2]


def test_an_unknown_operation_is_answered(make_agent: MakeAgent) -> None:
    assert answers(make_agent(), {"seq": 1, "op": "dance"})[0]["ok"] is False


def test_the_first_call_is_made_after_the_state_was_restored(make_agent: MakeAgent) -> None:
    calls: list[str] = []
    bound = (lambda: calls.append("call") or [0.0], lambda: calls.append("restore"))
    agent = make_agent(load=lambda *program: model(lambda arguments: bound))
    agent.load(ONE_FEED)
    agent.run({"program_id": "p", "feed_id": "f", "calls": 2})
    assert calls == ["restore", "call"] * 3


def test_restoring_is_outside_the_timed_region(make_agent: MakeAgent, clock: Callable[..., Any]) -> None:
    agent = make_agent()
    agent.feeds["p"] = {"f": (lambda: clock(0.25), lambda: clock(8.0))}
    reply = agent.run({"program_id": "p", "feed_id": "f", "calls": 3})
    assert reply == {"count": 3, "seconds": [0.25, 0.25, 0.25]}


def test_what_a_runtime_imports_is_not_counted(
    make_agent: MakeAgent, clock: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [1000]

    def prepare(source: str) -> None:
        clock(9.0)
        held[0] += 500

    monkeypatch.setattr(memory, "private_bytes", lambda: held[0])
    reply = make_agent(prepare=prepare, load=lambda *program: model()).load(LOAD)
    assert (reply["load_s"], reply["resident_bytes"]) == (0.0, 0)


def test_loading_binding_and_the_first_call_have_their_own_seconds(
    make_agent: MakeAgent, clock: Callable[..., Any]
) -> None:
    def bind(arguments: dict[str, float]) -> Any:
        return clock(arguments["bind"], (lambda: clock(arguments["call"], [1.0]), lambda: clock(8.0)))

    feeds = [{"name": "f", "arguments": {"bind": 0.5, "call": 2.0}}, {"name": "g", "arguments": {"bind": 1, "call": 3}}]
    reply = make_agent(load=lambda *program: clock(4.0, model(bind))).load({**LOAD, "feeds": feeds})
    assert reply["bind_s"] == {"f": 0.5, "g": 1.0}
    assert reply["first_call_s"] == {"f": 2.0, "g": 3.0}
    assert reply["load_s"] == 4.0 + 0.5 + 2.0 + 1.0 + 3.0 + 2 * 8.0


def test_files_that_are_mapped_lie_beyond_the_memory_limit(
    make_agent: MakeAgent, memory_limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = [5]

    def load(*program: Any) -> Any:
        mapped[0] += 300
        return model()

    monkeypatch.setattr(memory, "mapped_file_bytes", lambda: mapped[0])
    agent = make_agent(load=load, mapped_bytes=lambda folder, source: 400)
    agent.place.limit(10_000)
    memory_limits.clear()
    agent.load({**LOAD, "others_bytes": 60})
    assert memory_limits == [10_000 + 5 + 2 * 400, 10_000 + 5 + 2 * 300]


def test_a_pause_is_made_only_before_another_program_runs(make_agent: MakeAgent, slept: list[float]) -> None:
    agent = make_agent()
    agent.gap_s = 0.05
    agent.feeds |= {name: {"f": (lambda: [0.0], lambda: None)} for name in "ab"}
    pauses = []
    for name in "aabbba":
        agent.run({"program_id": name, "feed_id": "f", "calls": 1})
        pauses.append(len(slept))
    assert pauses == [1, 1, 2, 2, 2, 3]
    assert set(slept) == {0.05}


def test_without_a_gap_nobody_waits(make_agent: MakeAgent, slept: list[float]) -> None:
    agent = make_agent()
    agent.feeds["p"] = {"f": (lambda: [0.0], lambda: None)}
    agent.run({"program_id": "p", "feed_id": "f", "calls": 1})
    assert slept == []


@pytest.mark.parametrize(
    ("threads", "asked", "gap_s"), [(1, None, 0.0), (2, None, 0.05), (2, 0.0, 0.0), (1, 0.25, 0.25)]
)
def test_only_several_threads_need_a_gap(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, threads: int, asked: float | None, gap_s: float
) -> None:
    agent = greeting(make_agent, monkeypatch)
    assert agent.hello({**HELLO, "threads": threads, "gap_s": asked})["gap_s"] == agent.gap_s == gap_s


def greeting(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, root: str = "/") -> Agent:
    """An agent on a machine with two processors."""
    functions = {"setup": lambda threads, options: None, "version": lambda: "plain 1", "providers": list, "place": Host}
    for module in (machine, server):
        monkeypatch.setattr(module, "processors", lambda: [0, 1])
    agent = make_agent(**functions)
    agent.machine = Machine(root)
    return agent


@pytest.mark.parametrize("threads", [-1, 3])
def test_threads_that_cannot_be_had_are_refused(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    (reply,) = answers(greeting(make_agent, monkeypatch), {**HELLO, "threads": threads, "seq": 1, "op": "hello"})
    message = f"threads must be 1 to 2 here, not {threads}"
    assert reply == {"seq": 1, "ok": False, "error": message, "cause": "option"}


@pytest.mark.parametrize(
    ("free_kib", "asked", "told", "limit"),
    [
        (2**20, 0, 2**30, 2**30),
        (2**20, 2**29, 2**29, 2**29),
        (2**20, 2**33, 2**30, 2**33),
        (2**10, 0, 2**20, server.LEAST_BYTES),  # a full machine is none without a limit
    ],
)
def test_memory_is_what_is_free_unless_told_otherwise(
    make_agent: MakeAgent,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    memory_limits: list[int],
    free_kib: int,
    asked: int,
    told: int,
    limit: int,
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemAvailable: {free_kib} kB\n")
    agent = greeting(make_agent, monkeypatch, str(tmp_path))
    assert agent.hello({**HELLO, "memory_bytes": asked})["free_bytes"] == told
    assert memory_limits == [limit]


@pytest.mark.parametrize("energy", [True, False])
def test_energy_is_a_capability_where_it_is_counted(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, energy: bool
) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0" if energy else "dram")
    (zone / "energy_uj").write_text("2500000")
    agent = greeting(make_agent, monkeypatch, str(tmp_path))
    assert ("energy" in agent.hello(HELLO)["capabilities"]) is energy
    assert agent.energy({}) == {"energy_j": 2.5 if energy else None}


@pytest.mark.parametrize("package", ["onnxruntime", "torch"])
def test_a_package_that_is_missing_is_named(make_agent: MakeAgent, package: str) -> None:
    def prepare(source: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    (reply,) = answers(make_agent(prepare=prepare), {**LOAD, "seq": 1})
    assert (reply["cause"], reply["package"]) == ("package", package)


@pytest.mark.parametrize("words", [*server.NO_MEMORY, None])
def test_memory_that_cannot_be_had_is_called_so(make_agent: MakeAgent, words: str | None) -> None:
    def load(*program: Any) -> Any:
        raise RuntimeError(f"x {words} y") if words else MemoryError

    (reply,) = answers(make_agent(load=load), {**LOAD, "seq": 1})
    assert reply["error"].startswith("out of memory: ")


@pytest.mark.parametrize(("length", "kept"), [(1, 1), (512, 512), (513, 257), (1024, 512), (49152, 512)])
def test_samples_an_output_evenly_up_to_512_values(length: int, kept: int) -> None:
    sample = sample_output(range(length))
    assert len(sample) == kept
    assert sample == list(range(0, length, -(-length // 512)))
