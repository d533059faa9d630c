"""Explanations of failed connections, from the messages of OpenSSH's client."""

from adaptare.core import DeviceError

# Words of the client -> explanation and advice; the first match counts. `{address}` is for use after `ssh`.
KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("HOST IDENTIFICATION HAS CHANGED", "has changed and you have requested strict checking"),
        "its host key changed: another machine answers, or it was reinstalled. If you know why, remove the old key "
        "with: ssh-keygen -R '{host}', and then connect once by hand: ssh {address}",
    ),
    (
        ("Host key verification failed", "host key is known for"),
        "its host key is unknown here; connect once by hand and compare the fingerprint: ssh {address}",
    ),
    (
        ("Permission denied (", "Too many authentication failures", "No supported authentication methods"),
        "it accepts no key of yours, and passwords are not asked for; send your key with: ssh-copy-id {address} (a key "
        "with a passphrase has to be in the agent: ssh-add)",
    ),
    (
        ("Could not resolve hostname", "hostname contains invalid characters"),
        "the host name is unknown; check its spelling, give an address, or name it in ~/.ssh/config",
    ),
    (
        ("Connection refused",),
        "the connection was refused; check the port, and start its ssh server (Debian, Raspberry Pi OS: sudo systemctl "
        "enable --now ssh; Termux: sshd, on port 8022)",
    ),
    (
        ("timed out", "No route to host", "Network is unreachable", "Host is down"),
        "it does not answer; check that it is switched on and reachable: ssh {address}",
    ),
)


def failed_connection(name: str, address: str, host: str, stderr: str) -> DeviceError:
    """The error that corresponds to messages of the client.

    Args:
        name: Prefix of the device's spelling.
        address: Arguments of `ssh` to connect by hand.
        host: Name of the host in the file of known keys.
        stderr: Standard error of the client.
    """
    for words, explanation in KNOWN:
        if any(word in stderr for word in words):
            return DeviceError(f"{name}: {explanation.format(address=address, host=host)}")
    return DeviceError(f"{name}: ssh failed: {_last(stderr)}; try it by hand: ssh {address}")


def lost_connection(name: str, stderr: str) -> DeviceError:
    """The error of a session on an open connection; arguments as for `failed_connection`."""
    if "Session open refused" in stderr:
        return DeviceError(
            f"{name}: it refuses a second session on one connection; raise MaxSessions in its sshd_config"
        )
    return DeviceError(
        f"{name}: the connection was lost (output of ssh: {_last(stderr)}); check the device and the network, and run "
        "the same command again"
    )


def _last(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "nothing"
