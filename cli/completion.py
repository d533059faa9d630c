"""Names that the shell completes: those that installed packages register."""

from collections.abc import Callable

from adaptare.core.extensions import extensions


def registered(group: str) -> Callable[[str], list[str]]:
    """Completion with the names of a group of entry points, such as `adaptare.devices`."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in extensions(group) if name.startswith(incomplete)]

    return complete
