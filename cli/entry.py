"""The command line as a program: bad words, a reader that is gone and a full stdout have an exit code of their own."""

import json
import sys
from typing import Final

import typer

from adaptare.app import app
from adaptare.console import OutputError, WatchedOutput, output_lost
from adaptare.devices import ExitCode

# Of what a command line does not say right; the class above it has no name that all versions of Typer share.
MISUSE: Final[type[Exception]] = typer.BadParameter.__mro__[1]


def run() -> int:
    """Runs the words of the command line. Returns the exit code; what is not understood is told in JSON too."""
    sys.stdout = WatchedOutput(sys.stdout)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except MISUSE as error:
        error.show()  # type: ignore[attr-defined]
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.format_message()}))  # type: ignore[attr-defined]
        return int(error.exit_code)  # type: ignore[attr-defined]
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, OutputError) as error:
        return output_lost(error)
    except SystemExit:  # Typer ends so, and only so, where the reader of stdout is gone
        return output_lost(BrokenPipeError())
    return int(code or 0)
