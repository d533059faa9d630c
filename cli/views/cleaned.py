from collections.abc import Iterator

from adaptare.workflows.devices import Cleaned


def sections(cleaned: Cleaned) -> Iterator[str]:
    """A line for each device."""
    for device, freed in cleaned.freed_bytes.items():
        yield f"{device}: {freed / 2**20:.2f} MiB freed"
