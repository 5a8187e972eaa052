"""Some of many, spread evenly."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stainglass.spread import spread


@given(st.integers(0, 3000), st.integers(1, 400))
def test_from_the_first_to_the_last_each_once(of: int, most: int) -> None:
    found = spread(of, most)
    assert len(found) == min(of, most)
    steps = {b - a for a, b in pairwise(found)}
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, of - 1)


def test_all_where_no_number_is_asked_for() -> None:
    assert spread(4, None) == [0, 1, 2, 3]
