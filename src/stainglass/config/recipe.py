"""Painting, judging, and the whole tree that a recipe is."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stainglass.config.data import Prepare, Simulate, Split, Windows
from stainglass.config.loops import AlignLoop, AutoencoderLoop, DenoiserLoop, DistilLoop, PolishLoop
from stainglass.config.metrics import metric_named
from stainglass.config.networks import Autoencoder, Clip, Denoiser, GeneEncoder
from stainglass.config.strict import Strict

SIMULATED = "Simulated"
"""How what recipes say of simulated data begins."""


class Sampling(Strict):
    """From noise to latents."""

    solver: Literal["euler", "heun", "unipc", "dpmpp", "jumps"] = "unipc"
    """Of the flow's equation; ``heun`` evaluates the network twice a step, ``jumps`` is for generators distilled to few steps."""
    steps: int = Field(16, ge=1)
    guidance: float = Field(1.5, ge=0)
    interval: tuple[float, float] = (0.2, 0.9)
    """Guidance acts while the noise level (0 clean … 1 noise) lies within."""
    thinning: float = Field(0.0, ge=0, lt=1)
    """Share of each spot's counts that is left out of what is told (binomial). Where training spots are few, a model that is told
    less, as it was in training (``genes.thinning``), leans less on what it knows of them by heart."""
    depth: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Median counts a spot, on the model's genes, that sections are thinned to; shallower ones are told in full. So a section
    deeper than those trained on is told no more exactly than they were."""
    candidates: int = Field(1, ge=1)
    """Pictures painted of each window, of which the one is kept that shows best what was told, as the denoiser itself reads it;
    more than one needs a generator that learnt to select (``stainglass select``)."""
    batch: int = Field(16, ge=1)
    seed: int = 0


def _known_metric(declared: str) -> str:
    metric_named(declared)  # before hours of training, not after
    return declared


class Evaluation(Strict):
    """The card."""

    windows: int = Field(200, ge=8)
    """At most this many held-out windows, spread evenly; every subject gets the same number."""
    noise_seeds: tuple[int, ...] = Field((0,), min_length=1)
    part: Literal["validation", "test"] = "test"
    """The part of the split that is judged; the other held-out part, when there is one, is the other patient."""
    primary: Annotated[str, AfterValidator(_known_metric)] = "recovery_gain"
    recovery_genes: int = Field(200, ge=5)
    usefulness: int = Field(0, ge=0)
    """Labelled training windows that classifiers of tissue are taught, and whose spots are painted once a noise seed, to
    find out whether synthetic patches are of use; 0 leaves these rows out."""
    derange_um: float = Field(500.0, gt=0)
    bootstrap: int = Field(1000, ge=50)
    lpips_weights: str | None = None
    inception_weights: str | None = None
    """The 2015 Inception weights: a file, a folder, or ``https://…#sha256=…``. By default torch's cache is looked
    into; without them no row is called FID. See docs/fid.md."""
    inception_torchscript: bool = False
    """Whether these weights may be TorchScript; it runs code of its own."""
    notes: tuple[str, ...] = ()


class Analysis(Strict):
    """What a run does with its generator after the card."""

    steps: tuple[Literal["figures", "compartments", "components", "subtypes", "latent"], ...] = ()
    most: int | None = Field(None, ge=8)
    """At most this many spots a section, spread evenly; None takes all."""
    signals: tuple[str, ...] = ()
    """Genes, gene sets or clip for the figures; by default they are chosen on training tissue."""


class Ablation(Strict):
    """Variants of a recipe that ``stainglass ablate`` trains and judges on one cohort, beside each other."""

    variants: dict[str, dict[str, Any]] = {}  # noqa: RUF012 (pydantic copies it)
    """Name → settings that differ from the recipe's."""
    training_seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    """Every variant is trained once a seed: the spread between them is told apart from that of noise and of windows."""


class Recipe(Strict):
    """A whole run, from sections to report."""

    name: str
    title: str = ""
    seed: int = 0
    simulate: Simulate | None = None
    prepare: Prepare = Prepare()
    split: Split = Split()
    windows: Windows = Windows()
    autoencoder: Autoencoder = Autoencoder()
    genes: GeneEncoder = GeneEncoder()
    clip: Clip | None = None
    denoiser: Denoiser = Denoiser()
    start: str | None = None
    """A finished generator (folder, hub id or ``builtin:NAME``) to go on from: its autoencoder, GeneCondNet, denoiser and
    gene axis. What describes networks is then passed over: of ``autoencoder`` all but a decoder that is to be sharpened, of
    ``denoiser`` all but ``attention`` and ``layers``, of ``train_autoencoder`` all but sharpening, of ``genes`` all but how
    counts are thinned, dropped and moved."""
    train_autoencoder: AutoencoderLoop = AutoencoderLoop()
    train_clip: AlignLoop = AlignLoop()
    train_denoiser: DenoiserLoop = DenoiserLoop()
    distil: DistilLoop = DistilLoop()
    polish: PolishLoop = PolishLoop()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    analysis: Analysis = Analysis()
    ablation: Ablation = Ablation()

    def on(self, given: str) -> Recipe:
        """The same on sections that are given: a sentence on simulated data would pass tissue of patients off as drawn.

        Parameters
        ----------
        given
            Name of their folder or manifest.
        """
        if not self.data.startswith(SIMULATED):
            return self
        title = "" if self.title.startswith(SIMULATED) else self.title
        told = f"Sections of {given}; nobody has described them (data in the recipe)."
        return self.model_copy(update={"simulate": None, "title": title, "data": told})

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        others = {
            "denoiser.source": self.denoiser.source,
            "autoencoder.folder": self.autoencoder.folder,
            "clip": self.clip,
            "genes.pretrain_steps": self.genes.pretrain_steps or None,
        }
        named = [key for key, value in others.items() if value is not None]
        if self.start is not None and named:
            raise ValueError(f"start brings its own networks: leave {', '.join(named)} out")
        if self.clip is not None and (self.train_denoiser.unpaired or self.genes.pretrain_steps):
            raise ValueError(
                "a clip brings its gene encoder, trained on all spots: leave unpaired and pretrain_steps out"
            )
        return self

    @model_validator(mode="after")
    def _has_pictures_to_tell(self) -> Self:
        if self.train_denoiser.image_share > 0 and self.clip is None:
            raise ValueError("train_denoiser.image_share tells CLIP's embeddings of pictures: it needs clip")
        return self

    @model_validator(mode="after")
    def _has_something_to_select_by(self) -> Self:
        if self.genes.told == "bulk" and self.sampling.candidates > 1:
            raise ValueError(
                "bulk tells every window the same, so none shows it best: set sampling.candidates=1"
            )
        return self

    half: bool = False
    """Keep the generator's weights in half precision: half the disk. It is loaded, judged and painted with in single."""
    data: str = ""
    """A sentence on the data and its terms, for the model card."""
