"""Measured numbers of the documentation are those of `benchmarks/measured`: a script writes them, and nobody else.

Columns or rows with `published` in their heading quote other people's numbers.
"""

import re
from pathlib import Path

import pytest
from fill_tables import BLOCK, PAGES, TABLES, filled, markdown

# A table with so many decimals or per cent has measured numbers.
FEWEST = 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_have_the_numbers_of_the_kept_outputs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python docs/tools/fill_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nobody_types_a_measured_number_into_a_table(page: Path) -> None:
    typed = BLOCK.sub("", page.read_text(encoding="utf-8"))
    tables = re.findall(r"(?:^ *\|.*\n)+", typed, flags=re.MULTILINE)
    measured = [table for table in tables if len(re.findall(r"\d\.\d|\d %", table)) >= FEWEST]
    assert [table for table in measured if "published" not in table.splitlines()[0]] == []


def test_every_table_is_shown() -> None:
    shown = {name for page in PAGES for _, name, _, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert shown == set(TABLES)


def test_a_table_is_written_in_markdown() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="no-such-table"):
        filled("<!-- table: no-such-table -->\n<!-- end -->")


def test_figures_are_drawn_from_the_kept_outputs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from draw_figures import DOCS, FIGURES, main

    main(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FIGURES.keys()
    assert all((DOCS / name).exists() for name in FIGURES)
