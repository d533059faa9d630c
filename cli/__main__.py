"""`python -m adaptare` and the `adaptare` command."""

from adaptare.app import app


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
