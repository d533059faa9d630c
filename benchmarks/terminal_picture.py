"""Picture of what a command prints in a terminal of 80 columns, for the documentation, in a headless Chromium.

python benchmarks/terminal_picture.py --out docs/terminal.png adaptare overhead MODEL --device DEVICE
"""

import argparse
import asyncio
import contextlib
import os
import pty
import subprocess
import tempfile
from pathlib import Path

from headless_page import headless_page
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, LINE_PX, CHARACTER_PX, MARGIN_PX = 80, 20, 9, 16
PAGE = f"""<!DOCTYPE html><meta charset="utf-8"><style>{{stylesheet}}
body {{{{ color: {{foreground}}; background: {{background}}; margin: {MARGIN_PX}px;
font: 15px/{LINE_PX}px monospace }}}}
pre {{{{ margin: 0; font: inherit }}}}</style><pre>{{code}}</pre>"""


def printed(command: list[str]) -> str:
    """What a command writes to a terminal, with colours; its progress is left out."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        content = b""
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := os.read(ours, 65536):
                content += part
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return content.decode().replace("\r\n", "\n")


def drawn(command: list[str]) -> tuple[str, int]:
    """A page with the command and what it prints, and its number of lines."""
    text = Text.from_ansi(f"$ {' '.join(command)}\n{printed(command)}")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(text)
    return console.export_html(theme=MONOKAI, code_format=PAGE, clear=False), len(console.export_text().splitlines())


async def take(page_file: Path, lines: int, file: Path) -> None:
    """Takes the picture."""
    async with headless_page() as page:
        await page.look(width=COLUMNS * CHARACTER_PX + 3 * MARGIN_PX, height=lines * LINE_PX + 2 * MARGIN_PX, dark=True)
        await page.visit(page_file.as_uri())
        await page.picture(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/terminal.png"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    content, lines = drawn(arguments.command)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "terminal.html")
        page.write_text(content, encoding="utf-8")
        asyncio.run(take(page, lines, arguments.out))
    print(f"{arguments.out}: {lines} lines, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
