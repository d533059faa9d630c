"""Where workers run, and what a machine is called."""

import pytest

from adaptare.devices import host

ADJACENT = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
FAR_APART = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


@pytest.mark.parametrize(
    ("cores", "threads", "processors"),
    [
        (ADJACENT, 1, [3]),
        (ADJACENT, 2, [1, 3]),
        (ADJACENT, 3, [2, 1, 3]),
        (FAR_APART, 2, [2, 3]),
        ({0: "0", 1: "1"}, 1, [1]),
        ({0: "0", 1: "1"}, 2, [0, 1]),
    ],
)
def test_threads_have_a_core_of_their_own_as_long_as_there_are_any(
    monkeypatch: pytest.MonkeyPatch, cores: dict[int, str], threads: int, processors: list[int]
) -> None:
    monkeypatch.setattr(host, "_cores", lambda: cores)
    assert host.worker_processors(threads) == processors
    assert host.physical_cores() == 2


def test_the_processors_of_this_machine_are_allowed() -> None:
    assert set(host.worker_processors(1)) <= set(host.allowed_processors())
    assert 1 <= host.physical_cores() <= len(host.allowed_processors())


@pytest.mark.parametrize(
    ("fields", "board", "name"),
    [
        ({"model name": "A 1"}, "Board 5", "A 1"),
        ({}, "Board 5", "Board 5"),
        ({"CPU implementer": "0x41", "CPU part": "0xd0b"}, "", "0x41 0xd0b"),
    ],
)
def test_hardware_without_a_name_is_called_by_its_board_or_part(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], board: str, name: str
) -> None:
    host.hardware_name.cache_clear()
    monkeypatch.setattr(host, "_cpu_field", lambda field: fields.get(field, ""))
    if board:
        monkeypatch.setattr(host, "_board", lambda: board)
    try:
        assert host.hardware_name().startswith(f"{name} (")
    finally:
        host.hardware_name.cache_clear()
