"""Spelling of devices: `[TRANSPORT:TARGET/]RUNTIME[:options]`."""

from adaptare.core.extensions import extensions

# Groups of entry points.
DEVICES = "adaptare.devices"
TRANSPORTS = "adaptare.transports"


def split_options(spelling: str) -> tuple[str, str]:
    """The spelling of a device without its options, and the options."""
    options = parts_of_spelling(spelling)[3]
    return spelling.removesuffix(options).removesuffix(":"), options


def parts_of_spelling(spelling: str) -> tuple[str, str, str, str]:
    """Transport and target, both empty for this machine, the runtime, and its options."""
    scheme, colon, rest = spelling.partition(":")
    target, slash, local = rest.removeprefix("//").partition("/")
    entries = extensions(TRANSPORTS)
    if not colon or scheme in extensions(DEVICES) or not (slash or scheme in entries):
        return "", "", scheme, rest
    runtime, _, options = local.partition(":")
    return scheme, target, runtime or (entries[scheme].load().usual if scheme in entries else ""), options
