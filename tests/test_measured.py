"""Measured numbers of the documentation are those of `benchmarks/measured`: a script writes them, and nobody else.

Columns, rows or sections with `published` in their heading quote other people's numbers.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from fill_tables import BLOCK, PAGES, TABLES, VALUE, VALUES, filled, markdown

# An interval, or a number with decimals before a unit, is a measured one in a sentence.
IN_PROSE = re.compile(r"-?\d+(?:\.\d+)? \[[-\d.]+, |\d\.\d+ (?:%|ms|s|nats|points)(?!\w)|\d nats")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nobody_types_a_measured_number_into_a_sentence(page: Path) -> None:
    text = VALUE.sub("", BLOCK.sub("", page.read_text(encoding="utf-8")))
    text = re.sub(r"^```.*?^```$|`[^`\n]*`|^ *\|.*$|^#+ Published.*?(?=^#)", "", text, flags=re.MULTILINE | re.DOTALL)
    assert IN_PROSE.findall(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_value_does_not_end_its_paragraph(page: Path) -> None:
    assert re.findall(r"^ *<!-- value: .*", page.read_text(encoding="utf-8"), flags=re.MULTILINE) == []


@pytest.mark.parametrize(("marker", "known"), [(BLOCK, TABLES), (VALUE, VALUES)], ids=["tables", "values"])
def test_every_table_and_value_is_shown(marker: re.Pattern[str], known: Mapping[str, object]) -> None:
    shown = {name for page in PAGES for _, name, *_ in marker.findall(page.read_text(encoding="utf-8"))}
    assert shown == set(known)


def test_a_table_is_written_in_markdown() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="no-such-table"):
        filled("<!-- table: no-such-table -->\n<!-- end -->")


def test_a_value_is_filled_inside_its_sentence() -> None:
    shown = filled("It had <!-- value: faults -->1<!-- end --> faults.")
    assert shown == f"It had <!-- value: faults -->{VALUES['faults']()}<!-- end --> faults."
    with pytest.raises(KeyError, match="no-such-value"):
        filled("<!-- value: no-such-value --><!-- end -->")


def test_figures_are_drawn_from_the_kept_outputs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from draw_figures import DOCS, FIGURES, main

    main(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FIGURES.keys()
    assert all((DOCS / name).exists() for name in FIGURES)
