"""Start of the agent in C on a device: its bundle is sent once and kept by content hash."""

from adaptare.core import DeviceError
from adaptare.devices.native.build import bundle_for
from adaptare.devices.native.bundle import Bundle
from adaptare.devices.native.compiler import target_of
from adaptare.devices.transport import Link
from adaptare.devices.transports.remote_shell import RemoteShell, agent_link, prepare_folder, reason, send_agent

# Prints system, processor, and the product's name where Android reports it.
FACTS = """
uname -s && uname -m || exit 1
command -v getprop >/dev/null 2>&1 || exit 0
echo "$(getprop ro.product.manufacturer) $(getprop ro.product.model) $(getprop ro.soc.model)"
"""
# Prints the names of files that are there. Arguments: the folder, names.
LISTED = """
folder=$1
shift
for name; do [ -f "$folder/$name" ] && echo "$name"; done
exit 0
"""
# Libraries of the device's own environment (Termux) must not be loaded into the agent.
ALONE = "unset LD_PRELOAD LD_LIBRARY_PATH\n"
# Runs the agent without a folder, so that it only opens the library. Arguments: the folder, the command.
PROBED = f"""
chmod -R u+x "$1" || exit 1
shift
{ALONE}
"$@"
"""
# The shell stays, because its exit code reports a signal. Arguments: the product's name, the command.
STARTED = f'export ADAPTARE_HARDWARE="$1"\nshift\n{ALONE}"$@"\nexit $?\n'


def native_link(shell: RemoteShell, runtime: str) -> Link:
    """Prepares the agent on a device, for a runtime spelled as in `Transport.linked`.

    Raises:
        InputError: There is no bundle for its system.
        DeviceError: The connection failed, or the agent does not run there.
    """
    answer = shell.run(FACTS)
    if answer.code:
        raise DeviceError(f"{shell.name}: it does not tell its system: {reason(answer)}")
    system, machine, *product = answer.out.splitlines()
    bundle = bundle_for(target_of(system, machine), runtime.partition(":")[2])
    prepare_folder(shell)
    place = f"{shell.folder}/agents/{bundle.digest}"
    present = set(shell.run(LISTED, place, *(file.name for file in bundle.files)).out.splitlines())
    for file in bundle.files:
        if file.name not in present:
            target, named = f"{place}/{file.name}", f"{file.name} of the agent"
            send_agent(shell, bundle.folder / file.name, target, file.digest, named=named)
    command = bundle.command(place)
    _probe(shell, bundle, place, command)
    name = " ".join(" ".join(product).split())
    return agent_link(shell, shell.command(STARTED, name, *command, shell.folder), lambda package: "")


def _probe(shell: RemoteShell, bundle: Bundle, place: str, command: list[str]) -> None:
    """Raises `DeviceError` if the agent does not run, or does not open its library."""
    answer = shell.run(PROBED, place, *command)
    if answer.code == 0:
        return
    advice = "check that the bundle is for this system, and that programs may be run there"
    if not bundle.loader:
        advice = f"it may lack a C library; build the agent for {bundle.target} with libraries, such as those of debian"
    raise DeviceError(f"{shell.name}: the agent does not run there: {reason(answer)}; {advice}")
