"""Colours of what is drawn over tissue."""

from stainglass.analysis.overlay import GREY, PALETTE, colours_of
from stainglass.genes.classes import UNASSIGNED, tissue_classes


def test_every_name_has_a_colour_of_its_own():
    classes = tissue_classes().names
    found = colours_of(["necrosis", *classes, "smooth", UNASSIGNED])
    assert len(set(found.values())) == len(classes) + 3
    assert found[UNASSIGNED] == GREY
    assert [found[name] for name in classes] == list(PALETTE[: len(classes)])


def test_more_names_than_colours_come_again_paler():
    names = [f"cluster {i}" for i in range(30)]
    assert len({colours_of(names)[name] for name in names}) == 30
