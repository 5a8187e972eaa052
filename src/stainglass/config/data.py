"""What a run is made from: sections, their cohort, its split and windows."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stainglass.config.strict import Strict


class Simulate(Strict):
    """Simulated tissue to run on when no data are given."""

    tissue: Literal["skin", "colon"] = "skin"
    patients: int = Field(5, ge=1)
    size_um: float = Field(1200.0, ge=300)
    mpp: float = Field(0.5, ge=0.1, le=4)


class Prepare(Strict):
    """How sections become a cohort."""

    mpp: float | None = Field(None, ge=0.05, le=10)
    """µm/px; nothing is upsampled to it. None: 0.5, or the coarsest image's own when that is coarser. Where one is asked for,
    by a recipe too, coarser images are refused."""
    margin_um: float = Field(190.0, ge=0)
    """Pixels farther than this from tissue are stored as white."""
    expression: str | None = None
    """Further counts, without pictures (an ST folder, or ``.h5ad`` files), kept beside the sections: what the gene encoder
    may learn from, see ``genes.pretrain_steps``."""


FOLDS = ("k-fold", "leave-one-patient-out")
"""Kinds of split that are several; each names its own file."""


class Split(Strict):
    """Which sections train and which are held out; grouped by patient unless said otherwise, aloud."""

    kind: Literal["fixed", "random", "k-fold", "leave-one-patient-out", "spatial-blocks"] | None = None
    """``fixed``: the sections named below; ``random``: a share of the patients; ``k-fold`` and ``leave-one-patient-out``:
    every patient is held out once, in one of several splits; ``spatial-blocks``: the far end of every section, cut off when
    training begins. By default fixed when sections are named, else random, and blocks when there is but one patient. A split
    is made once and kept; one of another kind that is asked for later is refused."""
    fold: int = Field(0, ge=0)
    """Which of the folds this run holds out, from 0."""
    folds: int = Field(5, ge=2)
    """How many folds ``k-fold`` makes."""
    stratify: str | None = "site"
    """Column of the manifest whose values are spread evenly over the folds; where no section has it, none is."""
    name: str = "default"
    train: tuple[str, ...] = ()
    """Section ids; when all three are empty, patients are drawn at random by the ``seed`` of the command that draws first."""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    held_out_share: float = Field(0.34, gt=0, lt=1)
    """Share of patients held out when the sections are not named; of spots, where sections are divided into blocks. A split
    that was drawn with another share is kept, and told."""
    allow_shared_patient: bool = False
    """A patient on both sides of the split is refused unless this is set; the card then says so."""

    @model_validator(mode="after")
    def _a_fold_of_folds(self) -> Self:
        if self.fold and self.kind not in FOLDS:
            raise ValueError(f"fold {self.fold} is one of several: set split.kind to {' or '.join(FOLDS)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_fold(cls, tree: Any) -> Any:
        """Folds name their own files, so that whatever asks for a recipe's split by name gets this fold."""
        if not isinstance(tree, dict) or tree.get("kind") not in FOLDS:
            return tree
        fold = tree.get("fold", 0)
        whole = f"-of-{tree.get('folds', 5)}" if tree["kind"] == "k-fold" else ""
        return {**tree, "name": f"{'fold' if whole else 'left-out'}-{fold}{whole}"}


class Windows(Strict):
    """Squares the models see."""

    size_px: int = Field(256, ge=32, multiple_of=32)
    reach_um: float = Field(150.0, gt=0)
    """Spots within this distance of the window's centre condition it."""
    max_spots: int = Field(7, ge=1)
