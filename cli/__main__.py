"""`python -m adaptare` and the `adaptare` command."""

import json
import sys
from typing import Final

import typer

from adaptare.app import app
from adaptare.devices import ExitCode

# Of what a command line does not say right; the class above it has no name that all versions of Typer share.
MISUSE: Final[type[Exception]] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Runs the command line; what it does not understand is told as other bad input is, in JSON too."""
    try:
        code = app(standalone_mode=False)
    except MISUSE as error:
        error.show()  # type: ignore[attr-defined]
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.format_message()}))  # type: ignore[attr-defined]
        code = error.exit_code  # type: ignore[attr-defined]
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    raise SystemExit(code)


if __name__ == "__main__":
    main()
