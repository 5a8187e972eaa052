"""What a generator remembers of where it was trained."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from stainglass.cohort.blocks import Block
from stainglass.models.facts import CUTS, Facts

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


@pytest.mark.parametrize(
    ("axis", "test_from_um", "seen"),
    [(0, 700.0, set()), (0, 650.0, {"C2.test"}), (0, 900.0, set()), (1, 900.0, {"C2.test"})],
)
def test_blocks_that_were_cut_elsewhere_are_seen(axis: int, test_from_um: float, seen: set[str]) -> None:
    """Names alone would not tell: every cut of C2 has a C2.train and a C2.test."""
    facts = replace(FACTS, trained_on=("C2.train",), training={CUTS: {"C2": [0, 600.0, 700.0]}})
    block = Block(axis, test_from_um - 100, test_from_um, 10, 5)
    section = SimpleNamespace(id="C2.test", source_id="C2", block=(block, "test"))
    cohort = SimpleNamespace(sections={"C2.test": section}, patients={"C2.test": "P"})
    assert facts.seen_in(cohort, ("C2.test",), ("P",)) == seen  # type: ignore[arg-type]


def test_cuts_of_generators_it_learnt_from_are_remembered() -> None:
    one, two = (replace(FACTS, training={CUTS: {name: [0, 1.0, 2.0]}}) for name in ("C2", "C3"))
    assert one.having_seen(two).training[CUTS].keys() == {"C2", "C3"}
