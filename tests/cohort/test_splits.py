import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stainglass.cohort.splits import make_split, read_split, write_split
from stainglass.config import Split
from stainglass.errors import StainglassError

PATIENTS = {"C2": "C", "C3": "C", "C5": "C", "B4": "B"}


@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_a_drawn_split_never_parts_a_patient(patients: int, each: int, seed: int, share: float) -> None:
    table = {f"P{p}S{s}": f"P{p}" for p in range(patients) for s in range(each)}
    split = make_split(table, Split(held_out_share=share), seed, "cohort")
    parts = [set(split.train), set(split.validation), set(split.test)]
    assert set().union(*parts) == set(table)
    assert sum(map(len, parts)) == len(table)
    owners = [{table[s] for s in part} for part in parts]
    assert not owners[0] & (owners[1] | owners[2])
    assert split.test


def test_a_shared_patient_must_be_allowed_aloud() -> None:
    named = {"train": ("C2", "C3"), "validation": ("C5",), "test": ("B4",)}
    with pytest.raises(StainglassError, match="patient C stands on both sides"):
        make_split(PATIENTS, Split(**named), 0, "cohort")
    split = make_split(PATIENTS, Split(**named, allow_shared_patient=True), 0, "cohort")
    assert split.shared_patients == ("C",)


def test_an_edited_file_cannot_leak(tmp_path: Path) -> None:
    write_split(make_split(PATIENTS, Split(train=("C2", "C3"), test=("B4",)), 0, "cohort"), tmp_path)
    path = tmp_path / "default.json"
    assert read_split(path, PATIENTS).test == ("B4",)
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "test": ["B4", "C5"]}))
    with pytest.raises(StainglassError, match="both sides"):
        read_split(path, PATIENTS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": ("C2",), "test": ("Z9",)}, "'Z9' is not in the cohort"),
        ({"train": ("C2", "B4"), "test": ("B4",)}, "twice"),
        ({"train": ("C2",)}, "no section is held out"),
        ({"test": ("C2",)}, "no section to train on"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(settings: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(StainglassError, match=words):
        make_split(PATIENTS, Split(**settings), 0, "cohort")


def test_one_patient_only_is_said_with_a_way_out() -> None:
    with pytest.raises(StainglassError, match=r"one patient only \(C\).*allow_shared_patient"):
        make_split({"C2": "C", "C3": "C"}, Split(), 0, "cohort")
