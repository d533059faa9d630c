"""Every table of measured numbers in the documentation has its output in `benchmarks/measured`.

The section of a table names the files that hold its numbers, to the digits shown: `benchmarks/measured/NAME.json`.
Columns with `published` in their heading quote other people's numbers.
"""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "measured"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = re.compile(r"(?<![\w.^])[-+±]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w.]*\w)")
# A table with so many decimals or per cent has measured numbers.
FEWEST = 2
# Printed units over those of a file: the same, per cent, ms, us, and GB, MB.
UNITS = (1.0, 1e2, 1e3, 1e6, 1e-9, 1e-6)


@dataclass(frozen=True)
class Table:
    """A table of measured numbers, and the files that its section names."""

    page: str
    heading: str
    rows: tuple[str, ...]
    files: tuple[str, ...]

    def missing(self) -> list[str]:
        """Numbers that no file holds, with the first cell of their row."""
        known = np.concatenate([numbers_of(file) for file in self.files]) if self.files else np.array([np.inf])
        known = np.concatenate([unit * known for unit in UNITS])
        found = []
        for row in self.rows:
            first, *cells = zip(_cells(row), _cells(self.heading), strict=False)
            for text in NUMBER.findall("|".join(cell for cell, heading in cells if "published" not in heading)):
                digits = text.replace(",", "").lstrip("+±")
                if np.min(np.abs(known - float(digits))) > 0.5001 * 10.0 ** -len(digits.partition(".")[2]):
                    found.append(f"{first[0].strip()}: {text}")
        return found


def _cells(row: str) -> list[str]:
    return row.removeprefix("|").removesuffix("|").split("|")


def tables(page: Path) -> list[Table]:
    """All tables with measured numbers."""
    found = []
    for section in re.split(r"^#", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        files = tuple(dict.fromkeys(re.findall(r"benchmarks/measured/([\w-]+\.json)", section)))
        for table in re.findall(r"(?:^ *\|.*\n)+", section, flags=re.MULTILINE):
            if len(re.findall(r"\d\.\d|\d %", table)) >= FEWEST:
                heading, _, *rows = map(str.strip, table.splitlines())
                found.append(Table(page.name, heading, tuple(rows), files))
    return found


@functools.cache
def numbers_of(name: str) -> NDArray[np.float64]:
    """All numbers of a file, and ratios minus one."""
    found: list[float] = []

    def collect(value: object) -> None:
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                collect(each)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(float(value))

    collect(json.loads((MEASURED / name).read_text(encoding="utf-8")))
    return np.array([*found, *(each - 1 for each in found)])


@pytest.mark.parametrize("table", [table for page in PAGES for table in tables(page)], ids=lambda table: table.heading)
def test_a_kept_file_holds_the_numbers_of_a_table(table: Table) -> None:
    assert not table.missing(), (
        f"{table.page}: keep the output in benchmarks/measured, and name the file in the section"
    )
