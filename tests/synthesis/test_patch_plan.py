"""Which spots are painted how often: exact counts, nobody favoured, and shortfalls that are told."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from stainglass.cohort.splits import Split
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.models.facts import Facts
from stainglass.synthesis.patch_plan import LabelledSpots, Plan, paintable_sections, plan_patches


def spots(*cells: tuple[str, str, str, int]) -> LabelledSpots:
    """(class, patient, site, how many) …"""
    rows = [(label, patient, site) for label, patient, site, k in cells for _ in range(k)]
    return LabelledSpots(
        tuple(Window(f"S{p}", 8 * i, 0, 64, f"spot{i}") for i, (_, p, _) in enumerate(rows)),
        tuple(label for label, _, _ in rows),
        np.full(len(rows), 0.9),
        tuple(patient for _, patient, _ in rows),
        tuple({"site": site} for _, _, site in rows),
        "by hand",
    )


TISSUE = spots(
    *(("tumour", "A", "left", 60), ("tumour", "B", "right", 30)),
    *(("stroma", "A", "left", 20), ("stroma", "B", "right", 40), ("immune", "B", "right", 3)),
)


def counted(plan: Plan, column: str) -> Counter[str]:
    values = TISSUE.column(column)
    return Counter(values[i] for i in plan.spot)


def test_every_spot_is_taken_once_before_any_is_taken_twice():
    plan = plan_patches(TISSUE, 100)
    assert len(plan) == len(set(plan.spot)) == 100
    assert not plan.repeat.any()
    plan = plan_patches(TISSUE, 400)
    times = Counter(plan.spot.tolist())
    assert set(times.values()) == {2, 3}
    assert len({*zip(plan.spot.tolist(), plan.repeat.tolist())}) == 400  # never the same noise twice
    assert plan.notes == ()


def test_classes_are_equal_to_within_one():
    for n in (12, 13, 14):
        counts = counted(plan_patches(TISSUE, n, ("classes",)), "classes")
        assert sum(counts.values()) == n
        assert max(counts.values()) - min(counts.values()) <= 1


def test_patients_are_equal_and_within_classes_too():
    plan = plan_patches(TISSUE, 60, ("patients",))
    assert counted(plan, "patients") == {"A": 30, "B": 30}
    assert counted(plan_patches(TISSUE, 60, ("site",)), "site") == {"left": 30, "right": 30}
    plan = plan_patches(TISSUE, 60, ("classes", "patients"))
    assert counted(plan, "classes") == {"tumour": 20, "stroma": 20, "immune": 20}
    cells = Counter((TISSUE.labels[i], TISSUE.patients[i]) for i in plan.spot)
    assert cells["tumour", "A"] == cells["tumour", "B"] == cells["stroma", "A"] == 10
    assert cells["immune", "B"] == 20


def test_a_class_that_cannot_be_filled_stays_small_and_is_told():
    plan = plan_patches(TISSUE, 120, ("classes",), most_repeats=5)
    assert counted(plan, "classes") == {"tumour": 40, "stroma": 40, "immune": 15}
    assert plan.repeat.max() == 4
    assert plan.notes == (
        "immune: 15 of 40 patches; there are 3 spots, and each is painted at most 5 times (--repeats).",
    )
    assert "the sections: 306 of 500" in plan_patches(TISSUE, 500, most_repeats=2).notes[0]


def test_a_class_that_is_not_even_over_patients_is_filled_and_told():
    plan = plan_patches(TISSUE, 150, ("classes", "patients"), most_repeats=1)
    cells = Counter((TISSUE.labels[i], TISSUE.patients[i]) for i in plan.spot)
    assert (cells["stroma", "A"], cells["stroma", "B"]) == (20, 30)  # A has no more
    assert "stroma is not even over patients: A 20, B 30." in plan.notes
    assert cells["tumour", "A"] == cells["tumour", "B"] == 25


def test_a_larger_plan_holds_the_smaller():
    for balance in ((), ("classes",), ("classes", "patients")):
        small, large = (
            {*zip(p.spot.tolist(), p.repeat.tolist())}
            for p in (plan_patches(TISSUE, n, balance, seed=3) for n in (50, 77))
        )
        assert small < large
    other = plan_patches(TISSUE, 50, seed=4)
    assert set(other.spot) != set(plan_patches(TISSUE, 50, seed=3).spot)


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(StainglassError, match=r"no such group\. Choose of classes, patients, site"):
        plan_patches(TISSUE, 10, ("stage",))
    with pytest.raises(StainglassError, match="no spot has a label"):
        plan_patches(spots(), 10)


def test_a_generator_that_has_seen_a_held_out_patient_is_refused():
    facts = Facts("small", 1.0, 64, 90.0, 5, (), (), (), (), trained_on=("A1", "B1"), patients=("A", "B"))
    cohort = SimpleNamespace(
        path="cohort", sections=dict.fromkeys(("A1", "B2", "C1")), patients={"A1": "A", "B2": "B", "C1": "C"}
    )
    apart = Split("default", ("A1",), (), ("C1",))
    assert paintable_sections(cohort, apart, facts) == ("A1",)
    with pytest.raises(StainglassError, match="holds out B, which the generator was trained on"):
        paintable_sections(cohort, Split("default", ("A1", "C1"), (), ("B2",)), facts)
