"""The networks of a generator, and how their inputs are corrupted in training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from stainglass.config.strict import Strict


class Autoencoder(Strict):
    """Own autoencoder trained by the run, or a diffusers autoencoder from a folder."""

    folder: str | None = None
    """Of a diffusers autoencoder, or ``builtin:NAME`` for that of a generator that comes with stainglass."""
    latent_channels: int = Field(16, ge=1)
    widths: tuple[int, int] = (64, 128)
    blocks: tuple[int, int] = (1, 2)
    decoder_widths: tuple[PositiveInt, PositiveInt] | None = None
    """Of the decoder, where it shall be another than the encoder; a start with another decoder is given a fresh one, which
    ``train_autoencoder.sharpen_steps`` train."""
    decoder_blocks: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """Residual blocks of such a decoder at 1/4 and at 1/8."""


class GeneEncoder(Strict):
    """GeneCondNet: spots → tokens and a pooled vector."""

    input: Literal["profile", "set", "pca", "gene-sets"] = "profile"
    """``profile``: the whole gene axis by one linear map; ``set``: the top-k genes as a set; ``pca``: principal
    components of the training spots; ``gene-sets``: scores of the hallmark sets and PROGENy pathways."""
    genes: int = Field(1000, ge=10)
    """Most variable genes of the training sections the model keeps."""
    top_k: int = Field(50, ge=1)
    components: int = Field(50, ge=2)
    """Of ``pca``."""
    told: Literal["spots", "bulk"] = "spots"
    """``bulk``: every spot is told the mean counts of its section, in training and ever after."""
    pooled: bool = True
    """Whether windows differ by a pooled vector beside the tokens."""
    width: int = Field(128, ge=16)
    tokens: int = Field(4, ge=1)
    """Tokens a spot."""
    thinning: float = Field(0.5, ge=0, lt=1)
    """In training each spot keeps a share of its counts drawn from 1 − thinning … 1 (binomial)."""
    gene_dropout: float = Field(0.1, ge=0, lt=1)
    spot_dropout: float = Field(0.1, ge=0, lt=1)
    section_shift: float = Field(0.0, ge=0, le=1)
    """Share of training windows whose expression is moved from their section's mean towards another training section's: what
    sets sections apart (handling, chemistry) then tells less of stain and thickness, which go with it where sections are few."""
    pretrain_steps: int = Field(0, ge=0)
    """Steps in which the gene encoder learns to complete thinned profiles, before the denoiser: of the training spots and of
    all counts without pictures whose patient is not held out."""

    @model_validator(mode="after")
    def _bulk_stays(self) -> Self:
        if self.told == "bulk" and self.section_shift > 0:
            raise ValueError(
                "section_shift moves the section's mean, which is all that bulk tells; set section_shift=0"
            )
        return self


class Clip(Strict):
    """CLIP of image and genes; its gene trunk is built from the recipe's ``genes``."""

    tower: str = "convnet"
    """``convnet`` (ours, trained here), ``efficientnet-lite0``, ``timm:MODEL``, or a folder or hub id of a
    transformers image model; all but the first are frozen and do not judge in the card."""
    revision: str | None = None
    widths: tuple[int, ...] = (48, 96, 192)
    image_px: int = Field(128, ge=32, multiple_of=16)
    dim: int = Field(128, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)
    linear: int = Field(20, ge=0)
    """Dimensions of the linear part (canonical correlation of texture and expression, relative to the section); 0: none."""
    linear_share: float = Field(0.5, ge=0, le=1)
    """Its share of a cosine."""
    trunk: Literal["fine-tuned", "frozen"] = "fine-tuned"
    """What the denoiser's training does to the gene trunk it takes from CLIP."""


Attention = Literal["coarsest", "coarse", "tokens", "everywhere"]


class Denoiser(Strict):
    """The network that turns noise into latents."""

    kind: Literal["unet", "dit", "stable-diffusion"] = "unet"
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = Field(1, ge=1)
    """A level of the UNet; of the DiT, in all. A UNet to go on from that has fewer is given what it lacks, silent at first."""
    heads_of: int = Field(32, ge=8)
    """Channels an attention head."""
    attention: Attention = "coarse"
    """Of ``unet``. All coarser levels hear tokens and attend to themselves; the finest, where that costs most, does neither
    (``coarse``), hears tokens alone (``tokens``), or does both (``everywhere``); ``coarsest``: the last level alone has any, and
    a step on a CPU takes half the time of ``coarse``. A start is given what it lacks, silent at first;
    ``coarse`` leaves it as it is."""
    source: str | None = None
    """Of ``stable-diffusion``: folder or hub id of a diffusers checkpoint of Stable Diffusion 1.x or 2.x. Its UNet is
    fine-tuned, its VAE is the autoencoder (unless ``autoencoder.folder`` is set), its schedule is kept."""
    revision: str | None = None
    """Commit of a hub id; pin it."""
    prediction: Literal["epsilon", "v_prediction", "sample"] = "v_prediction"
    """Of ``stable-diffusion`` without a source: what the network answers."""
    zero_snr: bool = True
    """Of ``stable-diffusion`` without a source: the last timestep is nothing but noise (Lin et al. 2024)."""
    pooled: Literal["token", "none"] = "token"
    """Of ``stable-diffusion``, which has no place for a pooled vector: one more token, or not told."""

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        if self.source is not None and self.kind != "stable-diffusion":
            raise ValueError("source needs kind: stable-diffusion")
        return self
