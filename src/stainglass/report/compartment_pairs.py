"""Which patches stand side by side: chosen by chance within their compartment, never by how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from stainglass.analysis.find_compartments import CompartmentStudy

PAIRS = 4


@dataclass(frozen=True)
class Pair:
    """A generated patch, the real one of the same place, and a real one of another place of the same compartment.

    Attributes
    ----------
    compartment
        Of all of them.
    spot
        Row of the study: its generated picture, and the real one of the same place.
    other
        Row of the study whose real picture is of the compartment, its window clear of the first; None where there
        is none.
    """

    compartment: str
    spot: int
    other: int | None


def choose_pairs(
    study: CompartmentStudy,
    generated: Sequence[str | None],
    real: Sequence[str | None],
    per: int = PAIRS,
    seed: int = 0,
) -> dict[str, list[Pair]]:
    """At most ``per`` pairs for each compartment of the study.

    Parameters
    ----------
    generated, real
        The compartment of the generated and of the real picture of every spot. By expression they are the same; by
        appearance each is what the picture is read as.
    """
    found: dict[str, list[Pair]] = {}
    for k, name in enumerate(study.names):
        rng = np.random.default_rng([seed, k])
        spots = rng.permutation(_of(generated, name))[:per]
        pool, taken = _of(real, name), {int(i) for i in spots}
        found[name] = []
        for i in spots:
            other = another_place(study, int(i), pool, taken, rng)
            taken |= set() if other is None else {other}
            found[name].append(Pair(name, int(i), other))
    return found


def another_place(
    study: CompartmentStudy,
    spot: int,
    pool: Int64[np.ndarray, m],
    taken: set[int],
    rng: np.random.Generator,
) -> int | None:
    """A spot of the pool whose window shares no pixel; None where there is none.

    One not shown yet if possible, and of the same section if possible, since stains differ between slides.
    """
    judged = study.judged
    window = judged.sections[0].painted.windows[0].size_px * judged.sections[0].painted.mpp
    apart = np.abs(judged.centres_um_yx[pool] - judged.centres_um_yx[spot]).max(axis=1) >= window
    same = judged.section[pool] == judged.section[spot]
    new = ~np.isin(pool, list(taken))
    for allowed in (same & apart & new, ~same & new, same & apart, ~same):
        if allowed.any():
            return int(rng.choice(pool[allowed]))
    return None


def _of(names: Sequence[str | None], name: str) -> Int64[np.ndarray, m]:
    return np.array([i for i, one in enumerate(names) if one == name], np.int64)
