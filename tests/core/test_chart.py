"""Charts as data: lengths of intervals, tables, and words for who does not see them."""

import math

import pytest

from adaptare.core.chart import HeatMap, Panel, Series, number

RANKS = Series("all", [1, 64], [15.04, 23.5], [14.0, math.nan], [16.0, math.inf], ["all r1", "all r64"])


def test_arms_reach_to_the_ends_and_are_left_out_where_an_end_is_unknown() -> None:
    below, above = RANKS.arms
    assert below == [pytest.approx(1.04), 0.0]
    assert above == [pytest.approx(0.96), 0.0]
    assert Series("plain", [1], [2.0]).arms == ([], [])


def test_a_panel_has_a_table_of_what_it_draws() -> None:
    table = Panel("decode 64", "rank", "overhead, %", [RANKS]).table
    assert [column.heading for column in table.columns] == [
        *("series", "name", "rank", "overhead, %", "lower end", "upper end")
    ]
    assert table.cells[1] == ["all", "all r64", "64", "23.5", "unknown", "unknown"]


def test_a_panel_says_in_words_what_it_shows() -> None:
    panel = Panel("decode 64", "rank", "overhead, %", [RANKS], {"base": 0.0})
    assert panel.in_words == "decode 64: overhead, % over rank. all: 15.04 to 23.5; base at 0."
    assert "nothing measured" in Panel("decode 64", "rank", "ms", [Series("all", [1], [math.nan])]).in_words


def test_a_heat_map_has_a_table_with_a_row_for_each_column() -> None:
    heat_map = HeatMap("winner 1", "layer", ["0", "1"], "linear", {"q_proj": [4, 0], "v_proj": [0, 8]}, "rank")
    assert [column.heading for column in heat_map.table.columns] == ["layer", "q_proj", "v_proj"]
    assert heat_map.table.cells == [["0", "4", "0"], ["1", "0", "8"]]
    assert (
        heat_map.in_words == "winner 1: rank by layer and linear. q_proj in 1 of 2, up to 4; v_proj in 1 of 2, up to 8."
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1234.5, "1,234"), (-3.14159, "-3.142"), (math.inf, "unknown")]
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text
