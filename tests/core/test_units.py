"""Texts of quantities: three digits, and no powers of ten."""

import pytest

from adaptare.core.units import energy, milliseconds, per_second


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (milliseconds(0.0123456), "12.3"),
        (milliseconds(0.9994), "999"),
        (milliseconds(0.99951), "1,000"),
        (milliseconds(1.23456), "1,235"),
        (energy(0.99951), "1 J"),
        (energy(999.51), "1,000 J"),
        (per_second(999.4), "999"),
        (per_second(999.51), "1,000"),
    ],
)
def test_the_last_number_before_a_larger_unit_has_no_power_of_ten(text: str, expected: str) -> None:
    assert text == expected
