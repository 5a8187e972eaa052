"""Which spots are painted for a downstream classifier, and how often.

A plan is a function of the labelled spots, the wishes and the seed. So it can be told before it is painted, and it grows:
the first hundred of a thousand are the hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.cohort.windows import Window
from stainglass.errors import StainglassError
from stainglass.models.facts import Facts

CLASSES, PATIENTS = "classes", "patients"
"""What can always be balanced; the columns of a cohort's groups can be as well."""


@dataclass(frozen=True)
class LabelledSpots:
    """Spots that may be painted, each with its label.

    Attributes
    ----------
    windows
        One a spot.
    labels
        (n,) class of each.
    confidence
        (n,) how sure the label is, 0 … 1; NaN where its source does not tell.
    patients
        (n,) whose it is.
    groups
        (n,) further groups of its section: column → group.
    source
        Where the labels came from, in words.
    """

    windows: tuple[Window, ...]
    labels: tuple[str, ...]
    confidence: NDArray[np.float64]
    patients: tuple[str, ...]
    groups: tuple[Mapping[str, str], ...]
    source: str

    def __len__(self) -> int:
        return len(self.windows)

    def column(self, name: str) -> list[str]:
        """Class, patient or group of each spot; where a section has no such group, an empty name.

        Raises
        ------
        StainglassError
            When there is no such column.
        """
        if name == CLASSES:
            return list(self.labels)
        if name == PATIENTS:
            return list(self.patients)
        known = list(dict.fromkeys(key for found in self.groups for key in found))
        if name not in known:
            raise StainglassError(
                f"--balance {name}",
                "the cohort's sections have no such group",
                f"Choose of {', '.join((CLASSES, PATIENTS, *known))}",
            )
        return [found.get(name, "") for found in self.groups]


@dataclass(frozen=True)
class Plan:
    """Which spots are painted under which noise.

    Attributes
    ----------
    spot
        (m,) index of the spot of each patch.
    repeat
        (m,) how often the spot was taken before: 0 the first time; added to the seed it is the patch's noise seed.
    notes
        What could not be done as asked, one sentence each.
    """

    spot: Int64[np.ndarray, m]
    repeat: Int64[np.ndarray, m]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.spot)


def plan_patches(
    spots: LabelledSpots, n: int, balance: Sequence[str] = (), most_repeats: int = 8, seed: int = 0
) -> Plan:
    """Choose spots for ``n`` patches: every spot once before any is taken twice, each time in other noise.

    Parameters
    ----------
    balance
        Columns (see `LabelledSpots.column`) over which patches are spread evenly, the first before the second: classes
        get the same number to within one; patients within each class too, as far as they have spots of it.
    most_repeats
        A spot is painted at most this often. Where that does not fill a class, it stays smaller and a note says so:
        patches of one spot differ in noise alone, and a hundred of them are not a hundred examples.

    Raises
    ------
    StainglassError
        When there is no spot, or no such column.
    """
    if not len(spots):
        raise StainglassError(
            "augment", "no spot has a label", "Choose other classes, or give labels (--labels)"
        )
    order = np.random.default_rng(seed).permutation(
        len(spots)
    )  # in a cell, spots are taken in this order, round by round
    columns = {name: np.asarray(spots.column(name), dtype=object) for name in dict.fromkeys(balance)}
    cells, notes = _spread(order, n, columns, most_repeats)
    return Plan(
        np.concatenate([np.resize(members, k) for members, k in cells]).astype(np.int64),
        np.concatenate([np.arange(k) // max(len(members), 1) for members, k in cells]).astype(np.int64),
        tuple(notes),
    )


Cells = list[tuple[NDArray[np.int64], int]]
"""Spots that are alike in everything that is balanced, and how many patches they give together."""


def _spread(
    members: NDArray[np.int64],
    n: int,
    columns: Mapping[str, NDArray[np.object_]],
    most_repeats: int,
    within: str = "",
) -> tuple[Cells, list[str]]:
    """Share ``n`` patches out over the values of the first column, and within each over the next."""
    if not columns:
        count, what = min(n, most_repeats * len(members)), within or "the sections"
        return [(members, count)], [_short(what, count, n, len(members), most_repeats)] if count < n else []
    (name, values), *rest = columns.items()
    here = sorted(set(values[members]))
    parts = [members[values[members] == value] for value in here]
    full = [most_repeats * len(part) for part in parts]
    # Classes that cannot be filled stay small: others made larger instead would not be balanced. Patients within a
    # class stand in for each other, or a class would be small because one patient has little of it.
    quotas = _filled(n, full) if within else _equal(n, len(parts))
    cells: Cells = []
    notes: list[str] = []
    if within and max(quotas, default=0) - min(quotas, default=0) > 1:
        shares = ", ".join(f"{value or 'none'} {quota}" for value, quota in zip(here, quotas))
        notes.append(f"{within} is not even over {name}: {shares}.")
    for value, part, quota in zip(here, parts, quotas):
        found, told = _spread(
            part, quota, dict(rest), most_repeats, f"{within}, {value}" if within else value or "none"
        )
        cells += found
        notes += told
    return cells, notes


def _equal(n: int, k: int) -> list[int]:
    """Shares that differ by one at most."""
    return [n // k + (i < n % k) for i in range(k)]


def _filled(n: int, full: Sequence[int]) -> list[int]:
    """Shares as equal as their limits allow, together ``n`` or all there is."""
    shares = [0] * len(full)
    left = min(n, sum(full))
    while left:
        open_ = [i for i, limit in enumerate(full) if shares[i] < limit]
        for i, more in zip(open_, _equal(left, len(open_))):
            more = min(more, full[i] - shares[i])
            shares[i] += more
            left -= more
    return shares


def _short(what: str, count: int, n: int, spots: int, most_repeats: int) -> str:
    return (
        f"{what}: {count} of {n} patches; there are {spots} spots, and each is painted at most {most_repeats} times "
        "(--repeats)."
    )


def paintable_sections(
    cohort: Cohort, split: Split, facts: Facts, wanted: Sequence[str] = ()
) -> tuple[str, ...]:
    """The training sections, or those wanted of them.

    Held-out sections are refused: a classifier that was taught their patches could not be tested on them.

    Raises
    ------
    StainglassError
        When a section is held out, was not trained on, or the generator has seen what is held out.
    """
    held = {*split.validation, *split.test}
    known = [name for name in split.train if name in facts.trained_on and name in cohort.sections]
    leaked = sorted(facts.seen_in(cohort, held, split.shared_patients))
    if leaked:
        raise StainglassError(
            cohort.path,
            f"its split holds out {', '.join(leaked)}, which the generator was trained on",
            "Restore the split it was trained with, or train again",
        )
    if not known:
        raise StainglassError(
            cohort.path,
            f"has no section the generator was trained on ({', '.join(facts.trained_on) or 'none named'})",
            "Give the cohort it was trained with",
        )
    for name in wanted:
        if name not in known:
            why = (
                "is held out; its patches would leak into the test" if name in held else "was not trained on"
            )
            raise StainglassError(f"--section {name}", why, f"Choose of {', '.join(known)}")
    return tuple(dict.fromkeys(wanted)) or tuple(known)
