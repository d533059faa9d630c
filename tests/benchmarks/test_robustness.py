"""The table of bad inputs."""

from robustness_cases import PLAIN, cases


def test_every_command_has_bad_inputs() -> None:
    names = [case.name for case in cases()]
    assert len(names) >= 500
    assert {name.split()[0] for name in names} == set(PLAIN)
