"""Compartments of tissue: groups of classes that a pathologist would name, called from expression.

Necrosis and hypoxia are called by the hallmark of hypoxia (Liberzon et al. 2015), since dead tissue has no markers of
its own. All scales are fitted on training spots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from stainglass.analysis.classes import MAJORITY, Called, ClassScorer, Expressed
from stainglass.genes.classes import tissue_classes
from stainglass.genes.gene_sets import HYPOXIA, gene_sets
from stainglass.sections.simulate.truth import Truth

EPITHELIUM, DEAD = "tumour / epithelium", "necrosis / hypoxia"
COMPARTMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        EPITHELIUM: ("epithelial", "keratinocyte", "hair follicle", "melanocyte"),
        "stroma": ("fibroblast", "endothelial"),
        "immune": ("immune",),
        "adipose": ("adipose",),
        DEAD: (HYPOXIA,),
        "smooth muscle": ("smooth muscle",),
    }
)
"""Compartment → its classes. Markers do not tell a carcinoma from the epithelium it came from."""

DEAD_TRUTH, HYPOXIC = "necrosis", 0.5
"""A simulated spot is of the dead compartment where necrosis leads or hypoxia is above this."""
Names = list[str | None]


@dataclass(frozen=True)
class CompartmentScorer:
    """Compartments from expression, fitted on training spots alone.

    Attributes
    ----------
    scorer
        Of the classes that the compartments are made of.
    """

    scorer: ClassScorer

    @classmethod
    def fit(cls, training: Expressed, seed: int = 0) -> CompartmentScorer:
        """Find out which classes, and whether hypoxia, the training tissue shows; see `ClassScorer.fit`."""
        return cls(ClassScorer.fit(training, seed=seed, also={HYPOXIA: gene_sets()[HYPOXIA].weights}))

    @property
    def members(self) -> dict[str, list[int]]:
        """Compartment → columns of its classes; compartments that the tissue does not show are left out."""
        place = {name: i for i, name in enumerate(self.scorer.classes)}
        found = {
            name: [place[one] for one in classes if one in place] for name, classes in COMPARTMENTS.items()
        }
        return {name: columns for name, columns in found.items() if columns}

    def call(self, spots: Expressed, seed: int = 0) -> Called:
        """Call every spot the compartment whose classes lead together in most redraws of its counts."""
        called, members = self.scorer.call(spots, seed), self.members
        score = np.column_stack([called.scores[:, at].max(axis=1) for at in members.values()])
        share = np.column_stack([called.probability[:, at].sum(axis=1) for at in members.values()])
        label = np.where(share.max(axis=1) > MAJORITY, share.argmax(axis=1), -1)
        return Called(tuple(members), score, share, label.astype(np.int64))


def true_compartments(truth: Truth, centres_um_yx: Float64[np.ndarray, "n 2"], diameter_um: float) -> Names:
    """What simulated tissue is: the compartment whose classes cover most of a spot; None off the tissue."""
    spots = truth.at(centres_um_yx, diameter_um)
    shares = spots[list(truth.classes)].T.groupby(_compartment_of).sum().T
    lead = shares.columns[shares.to_numpy(np.float64).argmax(axis=1)]
    dead = spots["hypoxia"].to_numpy(np.float64) > HYPOXIC
    covered = shares.sum(axis=1).to_numpy(np.float64) > 0
    return [DEAD if d else str(name) if c else None for name, d, c in zip(lead, dead, covered)]


def _compartment_of(truth_name: object) -> str:
    """The compartment that a class of simulated tissue belongs to."""
    name = tissue_classes().of_reference.get(str(truth_name), str(truth_name))
    return DEAD if name == DEAD_TRUTH else next(c for c, classes in COMPARTMENTS.items() if name in classes)
