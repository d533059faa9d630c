"""What the server of a page gives to whom, and where it listens. No browser is needed."""

import asyncio
import hashlib
import json
import os
import runpy
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from yarl import URL

from adaptare.core import DeviceError, InputError
from adaptare.devices.browser.transport import read_state, state_file
from adaptare.devices.browser.web_pages import HASHES, PUBLIC_FILES, RuntimeFiles, content_policy, local_files

STAND_IN = runpy.run_path(str(Path(__file__).parent / "browser_stand_in.py"))
SERVED, Served, page = map(STAND_IN.get, ("SERVED", "Served", "page"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with SERVED("served") as (url, process):
        yield Served(url, "served", process.pid)


def status(server: Served, path: str, **headers: str) -> int:
    """Status of a request; the path is sent as it is."""

    async def ask() -> int:
        async with ClientSession() as session:
            address = URL(server.origin + path, encoded=True)
            async with session.get(address, headers=headers, allow_redirects=False) as response:
                return response.status

    return asyncio.run(ask())


def path_of(server: Served) -> str:
    return urlsplit(server.url).path


@pytest.mark.parametrize("path", ["/", "/agent.js", "/wrong/socket", "//"])
def test_nothing_is_served_without_the_token(served: Served, path: str) -> None:
    assert status(served, path) == 403


@pytest.mark.parametrize("name", ["", "agent.js", "device.json"])
def test_the_page_is_isolated_and_loads_only_from_its_server(served: Served, name: str) -> None:
    async def headers() -> dict[str, str]:
        async with ClientSession() as session, session.get(served.url + name) as response:
            assert response.status == 200
            return dict(response.headers)

    found = asyncio.run(headers())
    assert found["Cross-Origin-Opener-Policy"] == "same-origin"
    assert found["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert found["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'")
    assert (found["Referrer-Policy"], found["Cache-Control"]) == ("no-referrer", "no-store")


def test_only_local_files_of_the_library_need_no_blobs() -> None:
    assert "blob:" not in content_policy(RuntimeFiles("runtime/"))
    policy = content_policy(PUBLIC_FILES)
    assert "connect-src 'self' blob: https://cdn.jsdelivr.net;" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy


@pytest.mark.parametrize(
    "tail",
    [
        "files/../../../../etc/passwd",
        "files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "files//etc/passwd",
        "runtime/..%2f..%2fserver.py",
        "../server.py",
        "__init__.py",
    ],
)
def test_no_path_leads_out_of_what_is_served(served: Served, tail: str) -> None:
    assert status(served, path_of(served) + tail) in (403, 404)


def test_a_page_is_given_the_files_that_were_brought_and_no_others(served: Served, tmp_path: Path) -> None:
    (tmp_path / "brought").write_bytes(b"content")
    (tmp_path / "other").write_bytes(b"secret")
    brought, other = (hashlib.sha256(content).hexdigest() for content in (b"content", b"secret"))
    assert served.state.ask("file", digest=brought, path=str(tmp_path / "brought")) == {}
    assert status(served, f"{path_of(served)}files/{brought}") == 200
    assert status(served, f"{path_of(served)}files/{other}") == 404
    assert status(served, f"/files/{brought}") == 403
    (tmp_path / "brought").unlink()
    assert status(served, f"{path_of(served)}files/{brought}") == 404


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1", "http://127.0.0.1.evil.example"])
def test_only_the_page_itself_may_connect(served: Served, origin: str) -> None:
    async def join() -> None:
        async with page(served, origin):
            pass

    with pytest.raises(WSServerHandshakeError, match="403"):
        asyncio.run(join())


def local_answer(server: Served, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.state.port), timeout=60) as connection:
        connection.sendall(line)
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    "line",
    [
        b'{"secret": "wrong", "op": "status"}\n',
        b'{"secret": 7, "op": "status"}\n',
        b"[]\n",
        b"[" * 10**5 + b"\n",
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_process_without_the_secret_gets_no_answer(served: Served, line: bytes) -> None:
    assert local_answer(served, line) == b""
    assert served.state.ask("status")["url"] == served.url


def test_a_process_that_asks_for_what_there_is_not_gets_no_answer(served: Served) -> None:
    for content in ({"op": "evaluate"}, {"op": "file"}, {"op": "file", "digest": [], "path": 2}):
        line = json.dumps({"secret": served.state.secret, **content}).encode() + b"\n"
        assert local_answer(served, line) == b""
    assert served.state.ask("status")["url"] == served.url


def test_only_its_user_can_read_the_secret(served: Served) -> None:
    assert stat.S_IMODE(os.stat(state_file(served.name)).st_mode) == 0o600


def test_listens_on_loopback_alone(served: Served) -> None:
    listening = [each for each in psutil.Process(served.process).net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert len(listening) == 2


@pytest.mark.parametrize(
    ("host", "words"), [("::", "the host '::' is every address"), ("192.0.2.1", "cannot serve on 192.0.2.1, port 0")]
)
def test_only_an_address_of_this_machine_is_served_and_not_every_one(host: str, words: str) -> None:
    with SERVED("elsewhere", "--host", host) as (said, process):
        assert words in said
        assert process.wait() == 2


def test_the_library_may_lie_deeper(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no files ort\.wasm\.min\.mjs, "):
        local_files(tmp_path)
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in HASHES:
        (tmp_path / "package" / "dist" / name).touch()
    assert local_files(tmp_path) == local_files(tmp_path / "package") == local_files(tmp_path / "package" / "dist")


def test_a_name_is_served_once(served: Served) -> None:
    with SERVED(served.name) as (said, process):
        assert f"a page named '{served.name}' is served already" in said
        assert process.wait() == 2
    assert served.state.ask("status")["url"] == served.url


@pytest.mark.parametrize("name", ["../x", "", "x" * 41, "ä"])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(InputError, match="a page is named by up to 40 letters"):
        state_file(name)


def test_what_a_killed_server_left_is_written_over_and_one_that_ends_takes_it_along() -> None:
    with SERVED("brief") as (_, process):
        process.kill()
        process.wait()
    with pytest.raises(DeviceError, match="does not answer; restart it"):
        read_state("brief").ask("status")
    with SERVED("brief") as (_, process):
        assert read_state("brief").ask("status")["open"] is False
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert not state_file("brief").exists()
    with pytest.raises(DeviceError, match="no page named 'brief' is served; start its server"):
        read_state("brief")
