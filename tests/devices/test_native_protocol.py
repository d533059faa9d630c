"""Messages to the agent in C that no host sends: each is refused, and the next one answered.

The agent is compiled by gcc with the sanitizers of addresses and undefined behaviour, which end it at any fault.
"""

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from adaptare.devices.machine_facts import EVERYTHING
from adaptare.devices.native.compiler import FLAGS, LIBRARIES, SOURCES, find_header
from adaptare.devices.native.runtime_library import installed_library
from adaptare.devices.program import program_file

pytestmark = [
    pytest.mark.native,
    pytest.mark.other_languages,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
Exchange = Callable[..., list[dict[str, Any]]]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Room for the bookkeeping of the sanitizers.
MUCH = 2**60
OPTIONS = {"provider": "CPUExecutionProvider", "spinning": True, "flush_denormals": False}
HELLO = {"op": "hello", "threads": 1, "processors": [], "options": OPTIONS, "memory_bytes": MUCH}
MACHINE = {"op": "machine", **EVERYTHING}
X = {"dtype": "float32", "shape": [4, 4], "uniform": 1.0, "seed": 3, "padded_to": [4, 5]}
LOAD = {"op": "load", "program_id": "p", "source": "m.onnx", "arguments": {"prepared": True}}
LOAD |= {"copies": 4, "between_bytes": 40}
LONGEST = 2**26


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("sanitized") / "agent"
    sources = sorted(SOURCES.glob("*.c"))
    command = ["gcc", *FLAGS, *SANITIZERS, "-I", find_header(None), *sources, "-o", built, *LIBRARIES]
    subprocess.run(command, check=True)
    return built


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The agent's folder, with one file in it."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,m] x) => (float[n,m] y) { y = Add(x, x) }'
    )
    (tmp_path / "files").mkdir()
    onnx.save(model, tmp_path / "m.onnx")
    shutil.copyfile(tmp_path / "m.onnx", tmp_path / "files" / program_file(tmp_path / "m.onnx").digest)
    return tmp_path


@pytest.fixture
def loading(folder: Path) -> dict[str, Any]:
    """A request to load it."""
    feeds = [{"name": "f", "arguments": {"inputs": {"x": X}}}]
    return {**LOAD, "files": {"m.onnx": program_file(folder / "m.onnx").digest}, "feeds": feeds}


@pytest.fixture
def exchange(agent: Path, folder: Path) -> Exchange:
    """Replies to these lines; the agent ends in order."""

    def run(*lines: bytes | dict[str, Any], library: str = "") -> list[dict[str, Any]]:
        sent = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        found = library or str(installed_library().content.data)
        done = subprocess.run([agent, found, folder], input=sent, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def numbered(requests: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, request in enumerate(requests, 1):
        yield {"seq": number, **request}


def test_requests_in_order_are_answered(exchange: Exchange, loading: dict[str, Any]) -> None:
    run = {"op": "run", "program_id": "p", "feed_id": "f", "calls": 5}
    unload = {"op": "unload", "program_id": "p"}
    requests = [HELLO, loading, run, unload, unload, loading, MACHINE, {"op": "close"}, run]
    replies = exchange(*numbered(requests))
    assert [reply["ok"] for reply in replies] == [True, True, True, True, False, True, True, True]
    assert [reply["seq"] for reply in replies] == list(range(1, 9))
    assert (replies[2]["count"], replies[-1]["end"]) == (5, True)


MALFORMED = [
    b"",
    b"[]",
    b"{}",
    b"{",
    b'{"seq": 5, "op": "close"}}',
    b'{"seq": 5, "op": "close",}',
    b'{"seq": 5, "seq": 6, "op": "close"}',
    b'{"seq": 05, "op": "close"}',
    b'{"seq": 5., "op": "close"}',
    b'{"seq": NaN, "op": "close"}',
    b'{"seq": -5, "op": "close"}',
    b'{"seq": "5", "op": "close"}',
    b'{"seq": ' + b"1" * 100 + b', "op": "close"}',
    b'{"seq": 5, "op": "close\\"}',
    b'{"seq": 5, "op": "\\u00"}',
    b'{"seq": 5, "op": "\\u0000close"}',
    b'{"seq": 5, "op": "\\ud800\\u0041"}',
    b'{"seq": 5, "op": "\\q"}',
    b'{"seq": 5, "op": "cl\x00ose"}',
    b'{"seq": 5, "op": "cl\tose"}',
    b'{"seq": 5, "op": "\xff"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{" + b",".join(b'"%d":0' % number for number in range(10_001)) + b"}",
    b'{"seq": 5, "op": tru}',
]


def test_a_malformed_message_is_refused_and_the_next_one_answered(exchange: Exchange) -> None:
    *refused, closed = exchange(*(line + b"\n" for line in MALFORMED), {"seq": 7, "op": "close"})
    assert closed == {"seq": 7, "ok": True, "end": True}
    assert len(refused) == len(MALFORMED)
    for line, reply in zip(MALFORMED, refused, strict=True):
        assert (reply["ok"], reply["seq"]) == (False, None), line[:40]
        assert reply["error"].startswith("ValueError: "), line[:40]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({}, "the request lacks 'op'"),
        ({"op": 5}, "'op' must be a string, not a number"),
        ({"op": "dance"}, "there is no operation 'dance'"),
        ({"op": "load"}, "'hello' comes before 'load'"),
        ({**HELLO, "threads": 1.5}, "'threads' must be a whole number, not 1.5"),
        ({**HELLO, "threads": 0}, "'threads' must be 1 to 4096"),
        ({**HELLO, "processors": 1}, "'processors' must be a list, not a number"),
        ({**HELLO, "processors": [-1]}, "there is no processor -1"),
        ({**HELLO, "options": {**OPTIONS, "spinning": 1}}, "'spinning' must be true, not a number"),
        ({**HELLO, "options": {}}, "the request lacks 'provider'"),
        ({**HELLO, "memory_bytes": -1}, "'memory_bytes' must be at least 0, not -1"),
        ({**HELLO, "memory_bytes": 0}, "the request lacks 'free_bytes'"),
        ({"op": "machine"}, "the request lacks 'file_bytes'"),
        ({**MACHINE, "files": [5]}, "'files' must be a list of strings"),
    ],
)
def test_a_message_of_the_wrong_form_is_refused_with_its_number(
    exchange: Exchange, message: dict[str, Any], words: str
) -> None:
    refused, closed = exchange({"seq": 5, **message}, {"seq": 7, "op": "close"})
    assert (refused["seq"], refused["ok"]) == (5, False)
    assert words in refused["error"]
    assert closed["ok"]


def test_a_message_that_is_too_long_is_refused(exchange: Exchange) -> None:
    long = b'{"seq": 5, "op": "' + b"x" * LONGEST + b'"}\n'
    refused, closed = exchange(long, {"seq": 7, "op": "close"})
    assert refused["error"] == f"ValueError: a request has at most {LONGEST} bytes, not {len(long) - 1}"
    assert closed["ok"]


def test_a_message_as_long_as_allowed_is_read(exchange: Exchange) -> None:
    start, end = b'{"seq": 5, "op": "', b'"}'
    refused, closed = exchange(
        start + b"x" * (LONGEST - len(start) - len(end)) + end + b"\n", {"seq": 7, "op": "close"}
    )
    assert (refused["seq"], refused["error"][:39]) == (5, "ValueError: there is no operation 'xxxx")
    assert closed["ok"]


@pytest.mark.parametrize("number", [2, 0])
def test_a_message_that_came_before_is_refused(exchange: Exchange, number: int) -> None:
    replies = exchange(*numbered([HELLO, MACHINE]), {"seq": number, **MACHINE}, {"seq": 3, "op": "close"})
    assert [reply["ok"] for reply in replies] == [True, True, False, True]
    assert (replies[2]["seq"], replies[2]["error"]) == (number, f"ValueError: request {number} came before")


@pytest.mark.parametrize("digest", ["", "..", "../m.onnx", "/etc/passwd", "a\n", "é", "a" * 300])
def test_a_digest_names_no_other_place(exchange: Exchange, loading: dict[str, Any], digest: str) -> None:
    asking = [{"op": "missing", "digests": [digest]}, {"op": "forget", "digests": [digest]}]
    replies = exchange(*numbered([HELLO, *asking, {**loading, "files": {"m.onnx": digest}}]))
    assert [reply["ok"] for reply in replies[1:]] == [False] * 3
    assert all("is no content hash" in reply["error"] for reply in replies[1:])


@pytest.mark.parametrize("name", ["", "..", "../m.onnx", "/m.onnx"])
def test_a_file_name_names_no_other_place(exchange: Exchange, loading: dict[str, Any], folder: Path, name: str) -> None:
    (digest,) = loading["files"].values()
    _, refused = exchange(*numbered([HELLO, {**loading, "files": {name: digest}, "source": name}]))
    assert refused["error"] == f"ValueError: '{name}' is no plain file name"
    assert list((folder / "programs").iterdir()) == []


@pytest.mark.parametrize("source", ["../../m.onnx", "other.onnx"])
def test_only_a_file_of_the_program_is_loaded(exchange: Exchange, loading: dict[str, Any], source: str) -> None:
    _, refused = exchange(*numbered([HELLO, {**loading, "source": source}]))
    assert refused["error"] == f"ValueError: the program has no file '{source}'"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feeds": [5]}, "the request lacks 'name'"),
        ({"feeds": [{"name": "f", "arguments": {"inputs": []}}]}, "'inputs' must be an object, not a list"),
        ({"arguments": {"active_adapters": []}}, "a bound run ignores active_adapters"),
        ({"arguments": {"prepared": "no"}}, "'prepared' must be true, not a string"),
        ({"between_bytes": -1}, "'between_bytes' must be at least 0, not -1"),
        ({"between_bytes": 2**70}, "'between_bytes' must be a whole number"),
        ({"copies": 257}, "'copies' must be 1 to 256"),
        ({"files": {"m.onnx": 5}}, "the content hash of 'm.onnx' must be a string"),
        ({"files": {"m.onnx": "abc"}}, "file 'm.onnx' was not brought: abc"),
    ],
)
def test_a_program_that_cannot_be_loaded_leaves_room_for_the_next(
    exchange: Exchange, loading: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    _, refused, loaded, again = exchange(*numbered([HELLO, {**loading, **change}, loading, loading]))
    assert words in refused["error"]
    assert loaded["ok"]
    assert again["error"] == "ValueError: program 'p' is loaded already"


@pytest.mark.parametrize("calls", [-1, 10**8, 2.5])
def test_calls_that_cannot_be_made_are_refused(exchange: Exchange, loading: dict[str, Any], calls: object) -> None:
    run = {"op": "run", "program_id": "p", "feed_id": "f"}
    replies = exchange(*numbered([HELLO, loading, {**run, "calls": calls}, {**run, "calls": 0}]))
    assert [reply["ok"] for reply in replies] == [True, True, False, True]


def test_a_message_that_is_damaged_anywhere_is_answered_once(exchange: Exchange, loading: dict[str, Any]) -> None:
    """Whatever it then means; so is every other."""
    rng, lines = random.Random(5), []
    for number in range(2, 400):
        line = bytearray(json.dumps({"seq": number, **loading, "program_id": str(number)}).encode())
        for _ in range(rng.choice([1, 1, 1, 4])):
            place = rng.randrange(len(line))
            change = rng.choice(["flip", "cut", "double"])
            if change == "flip":
                line[place] = rng.choice(b'0123456789"{}[]:,.-\\ abcu/\x00\xff')
            elif change == "cut":
                del line[place : place + rng.randrange(1, 9)]
            else:
                line[place:place] = line[place : place + rng.randrange(1, 9)]
        lines.append(bytes(line).replace(b"\n", b" ") + b"\n")
    replies = exchange({"seq": 1, **HELLO}, *lines, {"seq": 10**12, "op": "close"})
    assert len(replies) == 2 + len(lines)
    assert replies[-1] == {"seq": 10**12, "ok": True, "end": True}
    assert {reply["ok"] for reply in replies} == {True, False}


def test_a_library_that_is_none_is_told_at_every_request(exchange: Exchange, tmp_path: Path) -> None:
    (tmp_path / "none.so").write_text("nothing", encoding="utf-8")
    refused, closed = exchange({"seq": 1, **HELLO}, {"seq": 2, "op": "close"}, library=str(tmp_path / "none.so"))
    assert refused["error"].startswith("OSError: the library of ONNX Runtime cannot be opened: ")
    assert closed["ok"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int nothing;", "is no library of ONNX Runtime"),
        (
            'const char *version(void) { return "1.15.1"; } void *api(unsigned n) { (void)n; return 0; }\n'
            "const void *const base[] = {(void *)api, (void *)version};\n"
            "const void *OrtGetApiBase(void) { return base; }",
            "onnxruntime 1.15.1 is too old; use version 1.18 or later",
        ),
    ],
)
def test_a_library_that_is_too_old_is_refused(exchange: Exchange, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "old.c").write_text(source, encoding="utf-8")
    library = tmp_path / "old.so"
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", tmp_path / "old.c", "-o", library], check=True)
    assert words in exchange({"seq": 1, **HELLO}, library=str(library))[0]["error"]


def test_an_agent_that_nobody_hears_ends(agent: Path, folder: Path) -> None:
    command = [agent, str(installed_library().content.data), folder]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    process.stdin.close()
    process.stderr.close()
