"""Tables and numbers of the documentation are filled from the outputs in `benchmarks/measured`, by a script."""

from fill_tables import PAGES, filled


def test_pages_have_the_numbers_of_the_kept_outputs() -> None:
    texts = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    assert [name for name, text in texts.items() if filled(text) != text] == [], "run docs/tools/fill_tables.py"
