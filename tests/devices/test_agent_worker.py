"""The near side of the link, against agents that do not keep to the protocol."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.core import DeviceError, InputError, MissingPackageError, ProgramError, WorkerDiedError
from adaptare.devices import Feed, Link, Program, ProgramFile, Work, agent_worker
from adaptare.devices.agent_worker import AgentWorker
from adaptare.devices.contracts import USUAL_CACHE_BYTES

MakeWorker = Callable[..., AgentWorker]

ANSWER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "close" and {ends}:
        break
    {body}
    sys.stdout.flush()
"""


PLAIN = {"threads": 0, "pin": False, "cores": "", "gap_s": None, "options": {}, "memory_bytes": 0}
TOLD = {"timer_step_s": 1e-9, "runtime": "r 1", "threads": 3, "providers": [], "capabilities": ["forget"]}
TWO = {"processors": [4, 5], "hardware": "h", "files": {"proc/meminfo": "MemAvailable: 1048576 kB"}}
# Answers as an agent on this machine does, and writes requests to stderr.
AS_AGENT = """sys.stderr.write(line); sys.stderr.flush(); \
told = {{"machine": {machine}, "count": 1, "seconds": [0.1], "missing": [], **{told}}}; \
told |= {{"threads": request.get("threads") or 3}}; \
told |= dict.fromkeys(("resident_bytes", "peak_bytes", "load_s"), 0); \
told |= {{name: {{}} for name in ("outputs", "bind_s", "first_call_s")}}; \
print(json.dumps({{"seq": request["seq"], "ok": True, **told}}))"""


def started(*command: str, bring: Callable[[ProgramFile], None] = print) -> AgentWorker:
    return AgentWorker(Link(command, bring, os.environ), timeout_s=60)


@pytest.fixture
def answering() -> Iterator[MakeWorker]:
    """A worker whose agent runs one line of Python for each request."""
    with ExitStack() as stack:

        def make(body: str, bring: Callable[[ProgramFile], None] = print, ends: bool = True) -> AgentWorker:
            command = [sys.executable, "-S", "-E", "-c", ANSWER.format(body=body, ends=ends)]
            return stack.enter_context(closing(started(*command, bring=bring)))

        yield make


@pytest.mark.parametrize(
    "reply",
    ["{'seq': request['seq'] + 1, 'ok': True}", "{'ok': True}", "{'seq': request['seq'], 'ok': 1}", "[]", "'Welcome!'"],
)
def test_a_reply_to_another_request_or_of_another_form_breaks_the_link(answering: MakeWorker, reply: str) -> None:
    with pytest.raises(WorkerDiedError, match=r"reply '.*' came for request 1; the link is broken"):
        answering(f"print(json.dumps({reply})); break").unload("any")


def test_half_a_reply_is_no_reply(answering: MakeWorker) -> None:
    worker = answering("""sys.stdout.write('{"seq": 1, "ok": true}'); sys.stdout.flush(); sys.exit(3)""")
    with pytest.raises(WorkerDiedError, match="ended during 'unload' with exit code 3"):
        worker.unload("any")


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(3, [0.1, 0.1]), (2, [0.1, 0.1, 0.1])],
    ids=["count is right", "list is right"],
)
def test_a_list_of_another_length_breaks_the_link(answering: MakeWorker, count: int, seconds: list[float]) -> None:
    reply = f"""{{"seq": request["seq"], "ok": True, "count": {count}, "seconds": {seconds}}}"""
    with pytest.raises(WorkerDiedError, match=f"asked for 3 calls, the worker answered {len(seconds)} times"):
        answering(f"print(json.dumps({reply})); break").run("p", "f", 3)


def test_a_request_carries_number_operation_and_content(answering: MakeWorker) -> None:
    worker = answering("""sys.stderr.write(line); sys.stderr.flush(); sys.exit(5)""")
    with pytest.raises(WorkerDiedError, match=r'output: \{"seq": 1, "op": "run", "program_id": "p", .*"calls": 3\}$'):
        worker.run("p", "f", 3)


def test_an_agent_that_ends_at_once_is_told_with_its_words() -> None:
    worker = started(sys.executable, "-c", "raise SystemExit('no such runtime')")
    with closing(worker), pytest.raises(DeviceError, match=r"could not be set up: .* its last output: no such runtime"):
        worker.hello(**PLAIN)


def test_a_command_that_does_not_exist_is_the_fault_of_the_device() -> None:
    with pytest.raises(DeviceError, match="could not be started with 'no-such-interpreter'"):
        started("no-such-interpreter")


@pytest.mark.parametrize(("seconds", "operators"), [([0.1, 0.2], [{}, {}, {}]), ([0.1, 0.2, 0.3], [{}])])
def test_calls_that_are_missing_or_were_not_taken_apart_break_the_link(
    answering: MakeWorker, seconds: list[float], operators: list[dict[str, list[float]]]
) -> None:
    reply = f'{{"seq": request["seq"], "ok": True, "count": 3, "seconds": {seconds}, "operators": {operators}}}'
    program = Program("p", "m:f", "{}", (Feed("only", "{}", Work(1, 1, 1)),))
    message = f"asked for 3 calls, {len(seconds)} were timed and {len(operators)} attributed"
    with pytest.raises(WorkerDiedError, match=message):
        answering(f"print(json.dumps({reply})); break").attribute(program, "only", 3)


def test_an_agent_that_ignores_the_end_is_ended_by_force(answering: MakeWorker) -> None:
    worker = answering("""print(json.dumps({"seq": request["seq"], "ok": True, "end": True}))""", ends=False)
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.process_id, 0)


def test_what_an_agent_has_started_ends_with_it(answering: MakeWorker) -> None:
    """It holds the pipes of the agent, so that without its end nobody would see that of the agent."""
    zone = "sys/class/powercap/intel-rapl:0"
    start = f"package = lambda number: {{'{zone}/name': 'package', '{zone}/energy_uj': str(number * 10**6)}}; "
    start += "import subprocess; child = subprocess.Popen(['sleep', '600'])"
    reply = """print(json.dumps({"seq": request["seq"], "ok": True, "machine": {"files": package(child.pid)}}))"""
    worker = answering(f"{start}; {reply}; sys.stdout.flush(); sys.exit(0)")
    child = worker.energy_j()
    worker._process.wait()
    worker.close()
    assert child is not None
    with pytest.raises(ProcessLookupError):
        _until_gone(int(child))


def _until_gone(process: int) -> None:
    for _ in range(600):
        os.kill(process, 0)
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        time.sleep(0.1)


def test_an_agent_that_reads_no_more_is_given_up() -> None:
    """A request that is longer than what a pipe holds, to an agent that has answered once."""
    replies = [json.dumps({"seq": seq, "ok": True, "machine": TWO, **TOLD}) for seq in (1, 2)]
    twice = "".join(f"sys.stdin.readline()\nprint({reply!r})\nsys.stdout.flush()\n" for reply in replies)
    long = Feed("long", json.dumps({"values": "1" * 300_000}), Work(1, 1, 1))
    with closing(started(sys.executable, "-c", f"import sys, time\n{twice}time.sleep(600)")) as worker:
        worker.hello(**PLAIN)
        worker._timeout_s = 0.2
        with pytest.raises(WorkerDiedError, match=r"no answer to 'load' within 0\.2 s; the worker was stopped"):
            worker.load(Program("any", "source", "{}", (long,)))


def test_the_same_program_gets_a_new_id_at_each_loading(answering: MakeWorker) -> None:
    empty = {name: {} for name in ("providers", "outputs", "bind_s", "first_call_s")}
    reply = {"ok": True, "resident_bytes": 0, "peak_bytes": 0, "load_s": 0, **empty}
    worker = answering(f"""print(json.dumps({{"seq": request["seq"], **{reply}}}))""")
    program = Program("p", "m:f", "{}", ())
    ids = [worker.load(program).program_id for _ in range(2)]
    assert ids == [f"{program.hash}-1", f"{program.hash}-2"]


def requests(worker: AgentWorker, operation: str) -> list[dict[str, Any]]:
    """Requests of this operation that reached the agent, which ends by this."""
    worker.close()
    return [json.loads(line) for line in worker._stderr if f'"op": "{operation}"' in line]


def as_agent(machine: dict[str, object] = TWO, **told: object) -> str:
    return AS_AGENT.format(machine=machine, told={**TOLD, **told})


def test_what_the_agent_says_of_its_device_is_what_the_worker_knows(answering: MakeWorker) -> None:
    worker = answering(as_agent())
    worker.hello(**PLAIN)
    info = worker.info
    assert (info.hardware, info.runtime, info.threads, info.processors) == ("h", "r 1", 2, (4, 5))
    assert (info.free_bytes, info.cache_bytes, info.gap_s) == (2**30, USUAL_CACHE_BYTES, 0.05)
    assert info.capabilities == ("environment", "forget")
    assert worker.environment()["free_bytes"] == 2**30
    assert worker.energy_j() is None


def test_an_accelerator_has_memory_caches_and_clock_of_its_own(answering: MakeWorker) -> None:
    known = {**TWO, "known": {"accelerator": {"clock_mhz": 1}}}
    worker = answering(as_agent(known, accelerator="Toy GPU", free_bytes=1000, cache_bytes=0))
    worker.hello(**PLAIN)
    info = worker.info
    assert (info.hardware, info.gap_s) == ("Toy GPU beside h", 0.0)
    assert (info.free_bytes, info.cache_bytes) == (1000, USUAL_CACHE_BYTES)
    assert info.environment["accelerator"] == {"clock_mhz": 1}


@pytest.mark.parametrize(
    ("told", "cases"),
    [
        (
            {},
            [
                ({"moved_bytes": 80, "others_bytes": 900}, 4, 0),
                ({"moved_bytes": 80, "between_bytes": 70}, 1, 70),
                ({"moved_bytes": 80, "between_bytes": 500}, 1, 120),  # until the caches are filled twice
                ({"moved_bytes": 200, "between_bytes": 500}, 1, 0),
            ],
        ),
        (
            {"accelerator": "Toy"},
            [
                ({"moved_bytes": 80, "others_bytes": 500}, 1, 120),
                ({"moved_bytes": 80, "others_bytes": 60}, 1, 60),
            ],
        ),
    ],
)
def test_cold_programs_have_copies_and_stubs_other_memory(
    answering: MakeWorker, told: dict[str, object], cases: list[tuple[dict[str, int], int, int]]
) -> None:
    worker = answering(as_agent(cache_bytes=100, providers={}, **told))
    worker.hello(**PLAIN)
    for sizes, copies, _ in cases:
        assert worker.load(Program("p", "m:f", "{}", (), **sizes)).copies == copies
    found = [(sent["copies"], sent["between_bytes"]) for sent in requests(worker, "load")]
    assert found == [(copies, between) for _, copies, between in cases]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made, without making them."""
    pauses: list[float] = []
    monkeypatch.setattr(agent_worker, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_a_pause_is_made_only_before_another_program_runs(answering: MakeWorker, slept: list[float]) -> None:
    worker = answering(as_agent())
    worker.hello(**PLAIN)
    pauses = []
    for name in "aabbba":
        worker.run(name, "f", 1)
        pauses.append(len(slept))
    assert pauses == [1, 1, 2, 2, 2, 3]
    assert set(slept) == {0.05}


@pytest.mark.parametrize(("threads", "asked", "gap_s"), [(1, None, 0.0), (2, 0.0, 0.0), (1, 0.25, 0.25)])
def test_only_several_threads_need_a_gap(
    answering: MakeWorker, slept: list[float], threads: int, asked: float | None, gap_s: float
) -> None:
    worker = answering(as_agent())
    worker.hello(**{**PLAIN, "threads": threads, "gap_s": asked})
    worker.run("a", "f", 1)
    assert worker.info.gap_s == gap_s
    assert slept == [gap_s] * bool(gap_s)


@pytest.mark.parametrize("threads", [-1, 3])
def test_threads_that_cannot_be_had_are_refused(answering: MakeWorker, threads: int) -> None:
    with pytest.raises(InputError, match=f"^threads must be 1 to 2 here, not {threads}$"):
        answering(as_agent()).hello(**{**PLAIN, "threads": threads})


@pytest.mark.parametrize(
    ("free_kib", "asked", "told", "limit"),
    [
        (2**20, 2**29, 2**29, 2**30),
        (2**20, 2**33, 2**30, 2**30),
        (2**10, 0, 2**20, agent_worker.LEAST_BYTES),  # a full machine is none without a limit
    ],
)
def test_memory_is_what_is_free_unless_less_is_asked_for(
    answering: MakeWorker, free_kib: int, asked: int, told: int, limit: int
) -> None:
    worker = answering(as_agent({**TWO, "files": {"proc/meminfo": f"MemAvailable: {free_kib} kB"}}))
    worker.hello(**{**PLAIN, "memory_bytes": asked})
    assert worker.info.free_bytes == told
    (sent,) = requests(worker, "hello")
    assert (sent["memory_bytes"], sent["free_bytes"]) == (asked, limit)


def test_pinned_threads_have_their_processors_by_the_host(answering: MakeWorker) -> None:
    worker = answering(as_agent({**TWO, "processors": [4, 5, 6, 7]}))
    worker.hello(**{**PLAIN, "threads": 1, "pin": True, "cores": "30"})
    assert worker.info.processors == (5,)
    (sent,) = requests(worker, "hello")
    assert sent["processors"] == [5]


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ({"cause": "option"}, InputError, "^too many$"),
        (
            {"cause": "package", "package": "onnxruntime"},
            MissingPackageError,
            r"^too many; install it with: pip install 'adaptare\[onnx\]'$",
        ),
        ({"cause": "package", "package": "of_mine"}, DeviceError, "could not be set up: too many$"),
        ({}, DeviceError, "could not be set up: too many$"),
    ],
)
def test_a_refused_opening_says_who_has_to_act(
    answering: MakeWorker, reply: dict[str, str], error: type[Exception], words: str
) -> None:
    refused = {"ok": False, "error": "too many", **reply}
    worker = answering(f"""print(json.dumps({{"seq": request["seq"], **{refused}}}))""")
    with pytest.raises(error, match=words):
        worker.hello(**PLAIN)


def files(*names: str) -> tuple[ProgramFile, ...]:
    return tuple(ProgramFile(name, f"digest{name}", Path(name)) for name in names)


def test_only_files_that_the_device_lacks_are_brought(answering: MakeWorker) -> None:
    brought: list[str] = []
    answer = """print(json.dumps({"seq": request["seq"], "ok": True, "missing": ["digestb"], "forgotten": True}))"""
    worker = answering(answer, lambda file: brought.append(file.name))
    assert worker.forget(Program("p", "a", "{}", (), files("a", "b"))) is True
    assert brought == ["b"]


def test_a_file_that_cannot_be_brought_is_the_fault_of_the_program(answering: MakeWorker) -> None:
    def refuse(file: ProgramFile) -> None:
        raise FileNotFoundError(2, "No such file", file.name)

    worker = answering("""print(json.dumps({"seq": request["seq"], "ok": True, "missing": ["digesta"]}))""", refuse)
    with pytest.raises(ProgramError, match=r"a could not be brought to the device: .*No such file"):
        worker.load(Program("p", "a", "{}", (), files("a")))


def test_a_connection_lost_while_a_file_is_brought_ends_the_worker(answering: MakeWorker) -> None:
    def lose(file: ProgramFile) -> None:
        raise DeviceError("the connection was lost")

    worker = answering("""print(json.dumps({"seq": request["seq"], "ok": True, "missing": ["digesta"]}))""", lose)
    with pytest.raises(WorkerDiedError, match="a could not be brought to the device: the connection was lost"):
        worker.load(Program("p", "a", "{}", (), files("a")))
    with pytest.raises(WorkerDiedError, match="the worker ended during 'unload'"):
        worker.unload("p")


def test_an_agent_ends_in_the_middle_of_a_call_once_nobody_can_read_its_reply(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        "import sys, threading\nprint('here', file=sys.stderr)\nthreading.Event().wait()\n"
    )
    command = [sys.executable, "-m", "adaptare.devices.agent", "hanging:Runtime", str(tmp_path / "folder")]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, **pipes) as agent:
        assert agent.stderr.readline() == b"here\n"
        agent.stdout.close()
        assert agent.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import numpy.no_such_part\n", DeviceError, "no_such_part"),
        (
            "raise ModuleNotFoundError('No module named numpy', name='numpy')\n",
            MissingPackageError,
            r"numpy is not installed; .*'adaptare\[onnx\]'",
        ),
    ],
)
def test_a_package_that_the_runtime_itself_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "lacking.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "adaptare.devices.agent", "lacking:Runtime", str(tmp_path / "folder")]
    with closing(started(*command)) as worker, pytest.raises(error, match=words):
        worker.hello(**PLAIN)
