"""Fills tables and numbers of the documentation from the outputs that `benchmarks/measured` keeps.

Run `python docs/tools/fill_tables.py`. A table stands between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a
function of `measured_tables.py`, or of a file beside it that ends in `_tables.py`, with dashes. A number in a sentence
stands between `<!-- value: NAME -->` and `<!-- end -->`, and never begins a line: Markdown would end the paragraph.
NAME is a key of `measured_values.py`. Nobody types a measured number: who measures anew runs this script, and a test
compares.
"""

import re
from pathlib import Path

import overhead_tables  # noqa: F401  (registers its tables)
import prediction_tables  # noqa: F401
import recipe_tables  # noqa: F401
import search_tables  # noqa: F401
from measured_tables import TABLES, Table
from measured_values import VALUES

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / name for name in ("README.md", "SECURITY.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([\w-]+) -->)(.*?)(<!-- end -->)")


def markdown(table: Table) -> str:
    """Lines of a table in Markdown."""
    heading, *rows = table
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def filled(text: str) -> str:
    """A page with the present numbers in its tables and sentences."""
    text = VALUE.sub(lambda shown: f"{shown[1]}{VALUES[shown[2]]()}{shown[4]}", text)
    return BLOCK.sub(lambda block: f"{block[1]}\n{markdown(TABLES[block[2]]())}\n{block[4]}", text)


def main() -> None:
    """Rewrites the pages, and names those that changed."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
            print(f"filled: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
