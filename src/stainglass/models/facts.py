"""What a generator knows of its own world, and `stainglass.json`, where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stainglass.cohort.blocks import PARTS
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.genes.axis import GeneAxis
from stainglass.models.sampler import SamplerSettings

FORMAT = 1
FACTS_FILE = "stainglass.json"

TOOK_PART = "networks that took part"
EXPRESSION_OF = "expression without pictures of"
GONE_ON = "gone on from"
LENT_BY = "autoencoder of"
DISTILLED = "distilled to"
TAUGHT_NULL = "windows told nothing while distilled"
CUTS = "blocks"
"""Key of where divided sections were cut: axis, and the µm along it below which was trained and from which was held out."""
GUIDED_BY = "guided away from"
POLISHED = "polished"
SELECTS = "selects"


@dataclass(frozen=True)
class Facts:
    """What a model must know about its own world to refuse what does not belong to it.

    Attributes
    ----------
    name
        Of the recipe it came from.
    mpp, window_px, reach_um, max_spots
        Scale, side and reach of the windows it was trained on.
    gene_ids, gene_symbols
        Its gene axis: the most variable genes of the training fold, most variable first.
    latent_mean, latent_std
        Per channel, of the training fold.
    told
        ``spots``, or ``bulk``: every spot is told the mean of its section.
    trained_on
        Section ids; ``patients`` their patients; ``data`` a sentence on the data and its terms.
    training
        Steps, parameters, seed, seconds, device: for the model card.
    pooled
        Whether a denoiser of Stable Diffusion's family is told the pooled vector, as one more token.
    sampling
        `SamplerSettings` of its recipe.
    stains
        Stain variants it was also trained on: name, method, numbers fitted and drawn a section.
    """

    name: str
    mpp: float
    window_px: int
    reach_um: float
    max_spots: int
    gene_ids: tuple[str, ...]
    gene_symbols: tuple[str, ...]
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    told: Literal["spots", "bulk"] = "spots"
    trained_on: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    data: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    pooled: bool = True
    sampling: dict[str, Any] = field(default_factory=dict)
    stains: tuple[dict[str, Any], ...] = ()

    @property
    def sampler(self) -> SamplerSettings:
        """How it is painted when nobody says otherwise.

        Raises
        ------
        StainglassError
            When it names a setting that this version does not know.
        """
        return SamplerSettings.read(self.sampling, self.name) if self.sampling else SamplerSettings()

    def seen(self, sections: Iterable[str], patients: Iterable[str], shared: Iterable[str]) -> set[str]:
        """Which of these sections and patients it was trained on; patients on both sides of a split (``shared``) apart.

        A block of a section was seen when the whole section was, and a whole one when any block of it was.
        """
        known = {*self.trained_on, *self.training.get(EXPRESSION_OF, ())}
        wholes = {_whole(name) for name in known}
        seen = {name for name in sections if name in known or name in wholes or _whole(name) in known}
        return seen | ((set(patients) & set(self.patients)) - set(shared))

    def seen_in(self, cohort: Cohort, held_out: Iterable[str], shared: Iterable[str]) -> set[str]:
        """`seen`, of sections of a cohort: blocks too that were cut nearer to what it was trained on than its own were."""
        names = list(held_out)
        found = self.seen(names, (cohort.patients[name] for name in names if name in cohort.patients), shared)
        for source, (axis, _, test_from_um) in self.training.get(CUTS, {}).items():
            for name in names:
                section = cohort.sections.get(name)
                if section is None or section.block is None or section.source_id != source:
                    continue
                block = section.block[0]
                if block.axis != axis or block.test_from_um < test_from_um - 1e-6:
                    found.add(name)
        return found

    def decoded_by(self, lender: Facts) -> Facts:
        """With the tissue that its autoencoder was trained on in another generator, which it paints with."""
        lent = {LENT_BY: lender.name} if set(lender.trained_on) - set(self.trained_on) else {}
        return replace(
            self,
            trained_on=tuple(dict.fromkeys((*self.trained_on, *lender.trained_on))),
            patients=tuple(sorted({*self.patients, *lender.patients})),
            training={**lent, **self.training},
        )

    def having_seen(self, other: Facts) -> Facts:
        """With all that another generator was trained on, which this one has learnt from."""
        kept: dict[str, Any] = {
            key: list(dict.fromkeys((*other.training.get(key, ()), *self.training.get(key, ()))))
            for key in (TOOK_PART, EXPRESSION_OF)
        }
        kept[CUTS] = other.training.get(CUTS, {}) | self.training.get(CUTS, {})
        return replace(
            self,
            trained_on=tuple(dict.fromkeys((*self.trained_on, *other.trained_on))),
            patients=tuple(sorted({*self.patients, *other.patients})),
            data=self.data if other.data in self.data else f"{self.data} {other.data}".strip(),
            stains=(*(stain for stain in other.stains if stain not in self.stains), *self.stains),
            training={**self.training, **{key: found for key, found in kept.items() if found}},
        )

    @property
    def took_part(self) -> tuple[str, ...]:
        """Names of networks it was trained on, which never judge it."""
        return tuple(self.training.get(TOOK_PART, ()))

    @property
    def axis(self) -> GeneAxis:
        """The model's gene axis."""
        return GeneAxis(self.gene_ids, self.gene_symbols)


def _whole(name: str) -> str | None:
    """The section that a block is of; None where the name is no block's."""
    section, _, part = name.rpartition(".")
    return section if part in PARTS else None


def write_facts(folder: Path, facts: Facts) -> None:
    """Write ``stainglass.json`` of a generator."""
    write_json(folder / FACTS_FILE, {"format": FORMAT, **asdict(facts)})


def read_facts(folder: Path) -> Facts:
    """Read ``stainglass.json`` of a saved generator."""
    path = folder / FACTS_FILE
    tree = read_json(path, "generator")
    if not isinstance(tree, dict) or tree.pop("format", None) != FORMAT:
        raise StainglassError(
            path,
            f"not a generator of format {FORMAT}",
            "Load it with the version that wrote it, or train again",
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
    return Facts(**values)
