"""What a generator remembers of where it was trained."""

from dataclasses import replace

import pytest

from stainglass.models.facts import Facts

FACTS = Facts("x", 0.5, 64, 100.0, 5, ("ENSG1",), ("A",), (0.0,), (1.0,), patients=("P",))


@pytest.mark.parametrize(
    ("trained_on", "held_out", "seen"),
    [
        (("C2", "C3"), ("C2",), {"C2"}),
        (("C2", "C3"), ("C4",), set()),
        (("C2", "C3"), ("C2.test",), {"C2.test"}),  # a block of what it saw whole
        (("C2.train",), ("C2.test",), set()),
        (("C2.train",), ("C2.train",), {"C2.train"}),
        (("C2.train",), ("C2",), {"C2"}),
    ],
)
def test_blocks_of_sections_it_saw_are_seen(
    trained_on: tuple[str, ...], held_out: tuple[str, ...], seen: set[str]
) -> None:
    assert replace(FACTS, trained_on=trained_on).seen(held_out, ("P",), ("P",)) == seen


def test_patients_are_seen_unless_they_stand_on_both_sides_aloud() -> None:
    assert FACTS.seen(("Z",), ("P", "Q"), ()) == {"P"}
