"""How each network is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from stainglass.config.strict import Strict


class Loop(Strict):
    """One training run."""

    steps: int = Field(1000, ge=1)
    batch: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup: int = Field(50, ge=0)
    weight_decay: float = Field(1e-3, ge=0)
    clip: float = Field(1.0, gt=0)
    ema_half_life: int = Field(200, ge=1)
    """Steps after which a weight's share in the moving average has halved (capped by the run's own length)."""
    precision: Annotated[
        Literal["no", "bf16", "fp16", "auto"],
        BeforeValidator(lambda given: "no" if given is False else given),
    ] = "auto"
    """``auto``: bf16 where the GPU or CPU multiplies it in hardware, else fp16 on a GPU, fp32 on a CPU."""
    checkpoint_every: int = Field(250, ge=1)
    keep: int = Field(2, ge=1)
    preview_every: int = Field(250, ge=1)
    log_every: int = Field(10, ge=1)
    optimiser: Literal["adamw", "adamw-fused", "adamw-8bit", "muon"] = "adamw"
    """``adamw-fused``: one kernel a step; ``adamw-8bit``: moments in 8 bits, needs a GPU and bitsandbytes; ``muon``: updates of
    matrices orthogonalised (Jordan et al. 2024), of which fewer are needed, and AdamW for the rest."""
    workers: int = Field(0, ge=0)
    """Processes that draw examples; 0: a thread, which keeps up with a CPU but not with a GPU."""
    trackers: tuple[str, ...] = ()
    """Any of Accelerate's trackers, e.g. ``tensorboard``."""
    seed: int = 0


_L = TypeVar("_L", bound=Loop)


def _recordable(loop: _L, recorded: bool, checkpointing: bool = False) -> _L:
    """Refuse what a CUDA graph cannot hold."""
    clashes = {
        "accumulate": loop.accumulate > 1,
        f"optimiser {loop.optimiser}": loop.optimiser in ("adamw-8bit", "muon"),
        "gradient_checkpointing": checkpointing,
    }
    if recorded and any(clashes.values()):
        named = ", ".join(key for key, clash in clashes.items() if clash)
        raise ValueError(f"cuda_graph cannot record a step with {named}; set one of them back")
    return loop


class AutoencoderLoop(Loop):
    """Training of the autoencoder on crops of the rasters."""

    crop_px: int = Field(128, ge=32, multiple_of=32)
    latent_noise: float = Field(0.02, ge=0)
    """Deviation of noise added to latents (a block's cosine coefficients on −1…1), so that the decoder forgives the
    denoiser's errors."""
    sharpen_steps: int = Field(0, ge=0)
    """Steps after these in which the decoder alone learns to paint as much fine detail as there is, at half
    the learning rate; latents stay. All that is trained of a start's autoencoder."""
    texture: float = Field(0.1, ge=0)
    """Weight of the amount of fine detail in those steps."""
    similarity: float = Field(0.3, ge=0)
    """Weight of 1 − structural similarity in those steps."""
    adversary: float = Field(0.0, ge=0)
    """Weight of a network that learns to tell decoded pictures from real ones in those steps (relativistic pairs, Huang et
    al. 2024); worth its time on a GPU, where they are many."""
    stay: float = Field(0.0, ge=0, lt=1)
    """Share of a start's decoder, of the same shape, that stays after those steps, weight by weight (Wortsman et al. 2022)."""


class AlignLoop(Loop):
    """Training of CLIP on patches and their spots."""

    chunk: int = Field(32, ge=1)
    """Pairs whose activations are held at once; the batch may be many times that."""
    jitter_um: float = Field(12.0, ge=0)
    """Windows are cut up to this far off their spot."""
    stain_jitter: float = Field(0.15, ge=0)
    """Deviation of the factor each colour's optical density is multiplied by."""
    views: int = Field(8, ge=1)
    """Looks at each spot that a frozen tower's features are computed for, once."""
    alike: float = Field(0.95, gt=0, le=1)
    """Spots of one section whose expression (20 components) has at least this cosine are no negatives."""


class Stage(Strict):
    """One of the stages of fine-tuning, each with its own warm-up and decay."""

    train: Literal["condnet", "cross-attention", "lora", "all"]
    steps: int = Field(ge=1)
    learning_rate: float | None = Field(None, gt=0)


class DenoiserLoop(Loop):
    """Training of GeneCondNet and the denoiser on crops of the latent rasters."""

    train: Literal["condnet", "cross-attention", "lora", "all"] = "all"
    """What is trained besides GeneCondNet: ``condnet`` nothing, ``cross-attention`` the denoiser's maps from tokens to
    keys and values, ``lora`` a low-rank change of its attention (Hu et al. 2021), ``all`` the whole denoiser."""
    stages: tuple[Stage, ...] = ()
    """Several such trainings one after another, each with ``train``, ``steps`` and, if it differs, ``learning_rate``;
    they replace ``train`` and ``steps``."""
    lora_rank: int = Field(16, ge=1)
    """Rank of LoRA."""
    compile: bool = False
    """Compile the denoiser (``torch.compile``): a minute or two at the start, then more steps a second on a GPU. Refused in bf16
    on a CPU, where its gradients are wrong."""
    cuda_graph: bool = False
    """On a GPU, record a step as a CUDA graph and replay it: a small network's step is mostly the launching of its kernels.
    By one process in bf16 or fp32; elsewhere steps are plain."""
    gradient_checkpointing: bool = False
    """Compute the denoiser's activations twice instead of keeping them: slower, in far less memory."""
    min_snr: float | None = Field(None, gt=0)
    """γ of min-SNR-γ (Hang et al. 2023): the error of the clean latent weighs min(SNR, γ); 5 is usual."""
    noise_offset: float = Field(0.0, ge=0)
    """Deviation of a shift of the noise by channel, so that overall brightness is learnt too; needless at zero SNR."""
    image_share: float = Field(0.0, ge=0, lt=1)
    """Share of windows told the CLIP embedding of their own picture instead of genes; needs ``clip``."""

    direction: float = Field(0.0, ge=0)
    """Weight of 1 − cosine between the velocity and what it should be, window by window, beside the squared error
    (Yao et al. 2024)."""
    times: Literal["flow", "even"] = "flow"
    """Noise levels of training: ``flow`` as the denoiser's flow draws them (ours logit-normally, Stable Diffusion's
    timesteps evenly), or all levels as often."""
    representation: float = Field(0.0, ge=0)
    """Weight of 1 − cosine between what the middle of the denoiser and a frozen EfficientNet-Lite0 make of the same place
    (Yu et al. 2025); that network then does not judge."""
    unpaired: tuple[str, ...] = ()
    """Training sections whose expression is not used: their tissue teaches the picture without a condition."""
    unpaired_share: float = Field(0.3, ge=0, lt=1)
    """Share of windows cut from them; 0 leaves them out."""
    null_share: float = Field(0.15, ge=0, lt=1)
    """Share of windows whose whole condition is dropped, for guidance."""
    anywhere_share: float = Field(0.7, ge=0, le=1)
    """Share of windows cut at any position of the raster instead of round a spot."""
    turns: bool = True
    """The eight flips and turns, spot offsets turned along."""
    stain_variants: int = Field(0, ge=0)
    """Latent rasters in other stains that windows are also cut from, so many for each training section."""
    stain_method: Literal["macenko", "reinhard"] = "macenko"
    """How stains are fitted, on the training slides."""
    stain_seed: int | None = None
    """Seed that stains are drawn with; by default ``seed``. Trainings that differ by ``seed`` can so share rasters."""

    @model_validator(mode="after")
    def _can_be_recorded(self) -> Self:
        return _recordable(self, self.cuda_graph, self.gradient_checkpointing)

    def in_stages(self) -> tuple[DenoiserLoop, ...]:
        """A loop a stage; this one itself without stages."""
        if not self.stages:
            return (self,)
        told = [stage.model_dump(exclude_none=True) for stage in self.stages]
        return tuple(self.model_copy(update={**changes, "stages": ()}) for changes in told)

    @property
    def all_steps(self) -> int:
        """Optimiser steps of all stages together."""
        return sum(loop.steps for loop in self.in_stages())


class DistilLoop(Loop):
    """Training of a generator that needs few steps, from a finished one (``stainglass distil``)."""

    steps: int = Field(500, ge=1)
    """Optimiser steps; each asks the teacher many times."""
    learning_rate: float = Field(2e-4, gt=0)
    """Highest; lower than the teacher's own was, which it only has to follow."""
    levels: int = Field(4, ge=1, le=16)
    """Steps it shall need."""
    substeps: int = Field(4, ge=1)
    """Steps of the teacher for each of these."""
    follow: Literal["flow", "euler"] = "flow"
    """Whether those steps follow the teacher's flow closely (midpoint rule), or are plain Euler's, which leave out a little of
    the noise's contrast when there are few: of use where the teacher paints best that way."""
    guide: str | None = None
    """A weaker generator in the same latent space (folder, hub id or ``builtin:NAME``) that the teacher is guided away from,
    in place of its own null condition (autoguidance, Karras et al. 2024). Needs guidance other than 1."""
    guide_told: Literal["spots", "nothing"] = "spots"
    """Told the spots, a guide makes for realism; told nothing, for control as well."""
    guidance: float | None = Field(None, ge=0)
    """Of the teacher; by default the one it is sampled with."""
    interval: tuple[float, float] | None = None
    """Noise levels at which it is guided; by default those it is sampled with."""
    null_share: float = Field(0.1, ge=0, lt=1)
    """Share of windows told nothing, so that the control which is told nothing is painted by what was taught to."""
    cuda_graph: bool = False
    """On a GPU, record a step and replay it, as in ``train_denoiser``."""

    @model_validator(mode="after")
    def _can_be_recorded(self) -> Self:
        return _recordable(self, self.cuda_graph)


class PolishLoop(Loop):
    """Training of a few-step generator's pictures against tissue, in the eyes of frozen networks (``stainglass polish``)."""

    steps: int = Field(600, ge=1)
    """Optimiser steps; each walks the generator's whole way, picture included."""
    batch: int = Field(8, ge=2)
    """Conditions a step; two pictures are painted from each."""
    learning_rate: float = Field(6e-5, gt=0)
    """Highest; the generator is only to be moved a little."""
    warmup: int = 20
    """Steps over which it rises."""
    ema_half_life: int = Field(40, ge=1)
    """In steps, of the moving average of the weights."""
    eyes: tuple[str, ...] = ()
    """Folders of diffusers' ``AutoencoderTiny`` whose encoders look at the pictures; they never judge them."""
    layout: float = Field(3.0, ge=0)
    """Weight of how far latents, averaged over 32 px, are from those that the generator painted from the same noise before:
    colour and layout stay, with what they tell of the genes. 0 lets them go."""
    adherence: float = Field(1.0, ge=0)
    """Weight of the energy score of single conditions, beside the distances of all pictures to all tissue."""
    spread: float = Field(1.0, ge=0, le=1)
    """How much of the distance between two pictures of one condition counts in that score. With 1 it is a proper score, least
    where pictures vary as tissue does; with less they keep closer to their condition, as guidance makes them do."""
    stay: float = Field(0.65, ge=0, lt=1)
    """Share of the denoiser's weights before that stays in the end: most of the texture is kept all the same, and what was told
    of the genes."""
    bank: int = Field(768, ge=32)
    """Windows of tissue that painted ones are compared with as a whole."""
