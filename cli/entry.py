"""Command line as a program, with separate exit codes for usage errors, a closed pipe and a full stdout."""

import codecs
import io
import json
import os
import sys
from typing import Final

import typer

from adaptare.app import app
from adaptare.console import WORDS, OutputError, WatchedOutput, output_lost
from adaptare.exit_codes import ExitCode

# Options by their former names.
RENAMED: Final = {
    "--ranks": "--rank",
    "--within": "--budget",
    "--phase": "-p TOKENS or -d POSITIONS",
    "--length": "-p TOKENS or -d POSITIONS",
}
# Set by the shell while it completes a word.
COMPLETING: Final = "_ADAPTARE_COMPLETE"
# Usage errors; their common base class has no name that all versions of Typer share.
MISUSE: Final[type[Exception]] = typer.BadParameter.__mro__[1]
SPELLED: Final = "adaptare.spelled"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Spelling of a character that the encoding of the output lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return {"µ": "u", "±": "+-"}.get(error.object[error.start], "?"), error.start + 1


def run() -> int:
    """Runs the command line. Returns the exit code; usage errors are reported in JSON too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(SPELLED, _spelled)
        sys.stdout.reconfigure(errors=SPELLED)
    sys.stdout = WatchedOutput(sys.stdout)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except MISUSE as error:
        if (renamed := RENAMED.get(getattr(error, "option_name", ""))) and hasattr(error, "message"):
            error.message = f"{error.message}; it is {renamed} now"
        error.show()  # type: ignore[attr-defined]
        if "--json" in WORDS.get():
            typer.echo(json.dumps({"error": error.format_message()}))  # type: ignore[attr-defined]
        return int(error.exit_code)  # type: ignore[attr-defined]
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, OutputError) as error:
        return output_lost(error)
    except SystemExit as error:  # raised by Typer after a completion, and if the reader of stdout has closed the pipe
        return int(error.code or 0) if COMPLETING in os.environ else output_lost(BrokenPipeError())
    return int(code or 0)
