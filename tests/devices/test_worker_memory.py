"""What a worker takes for free memory, and how it keeps to its limit."""

import os
from types import SimpleNamespace

import pytest

from adaptare.devices import agent


def test_free_memory_is_at_most_what_the_agent_may_take() -> None:
    runtime = SimpleNamespace(setup=lambda options: None)
    hello = {"processors": [], "options": {}, "memory_bytes": 2**33}
    assert 0 < agent.Agent(runtime).hello(hello)["free_bytes"] <= 2**33


@pytest.mark.parametrize(("used", "files", "left"), [(6, 0, 2), (8, 0, 0), (8, 5, 5), (4, 5, 8)])
def test_files_that_were_read_leave_their_memory_to_a_container(
    monkeypatch: pytest.MonkeyPatch, used: int, files: int, left: int
) -> None:
    said = {
        "max": str(8 * 2**20),
        "current": str(used * 2**20),
        "stat": f"anon 1\ninactive_file {files * 2**20}\nactive_file 0\nfile 9",
    }
    monkeypatch.setattr(agent, "_line", lambda file: said[file.rpartition(".")[2]])
    assert agent.free_bytes() == left * 2**20
    runtime, hello = SimpleNamespace(setup=lambda options: None), {"processors": [], "options": {}, "memory_bytes": 0}
    limits: list[int] = []
    monkeypatch.setattr(agent, "limit_memory", limits.append)
    assert agent.Agent(runtime).hello(hello)["free_bytes"] == left * 2**20
    assert limits == [agent.LEAST_BYTES], "a container that is full is no container without a limit"


def test_a_system_that_does_not_tell_what_is_free_has_all_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", nothing)
    assert agent.free_bytes() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_limit_of_memory_is_within_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, found: limits.append(found))
    for hard in (2**30, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (hard, hard))
        agent.limit_memory(2**40)
    assert limits == [(2**30, 2**30), (2**40, resource.RLIM_INFINITY)]
