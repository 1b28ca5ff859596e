"""How figures read, and that one named as enough is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.placement.explanation.wording import (
    figure,
    listed,
    number,
    numbers,
    ordinal,
    percent,
    rounded_down,
    rounded_up,
    size,
)


@given(st.floats(1e-9, 1e12), st.integers(1, 6))
def test_what_is_rounded_up_is_not_below_and_near(value: float, digits: int) -> None:
    assert value * (1 - 1e-9) <= rounded_up(value, digits) <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-9)
    assert value * (1 + 1e-9) >= rounded_down(value, digits) >= value * (1 - 10.0 ** (1 - digits)) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (figure(31_415.9), "31,416"),
        (figure(0.31415926), "0.3142"),
        (size(999), "999 bytes"),
        (size(12_345_678), "12.3 MB"),
        (number(1, "move"), "1 move"),
        (number(1_200, "move"), "1,200 moves"),
        (percent(0.0501), "5.1 %"),
        (percent(2.0), "200 %"),
        (", ".join(ordinal(i) for i in (1, 2, 3, 4, 11, 12, 21)), "1st, 2nd, 3rd, 4th, 11th, 12th, 21st"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (listed(["a", "b", "c"], 1), "a and 2 more"),
        (listed([]), ""),
        (numbers([3, 4], 2), "3, 4"),
        (numbers([3, 4, 7], 2), "3, 4 and 1 more"),
    ],
)
def test_figures_read_as_people_write_them(said: str, expected: str) -> None:
    assert said == expected
