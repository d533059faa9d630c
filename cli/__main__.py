"""Entry point of `python -m adaptare` and the `adaptare` command."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line; an interrupt ends it without a traceback, even during imports."""
    try:
        from adaptare.entry import run

        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
