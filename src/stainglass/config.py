"""One typed tree for a whole run: a recipe. Unknown keys are refused. How it comes from YAML: ``recipe_files``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulate(_Strict):
    """Simulated tissue to run on when no data are given."""

    tissue: Literal["skin", "colon"] = "skin"
    patients: int = Field(5, ge=1)
    size_um: float = Field(1200.0, ge=300)
    mpp: float = Field(0.5, ge=0.1, le=4)


class Prepare(_Strict):
    """How sections become a cohort."""

    mpp: float = Field(0.5, ge=0.05, le=10)
    """Wanted µm/px; the coarsest source's own when that is coarser."""
    margin_um: float = Field(190.0, ge=0)
    """Pixels farther than this from tissue are stored as white."""
    expression: str | None = None
    """Further counts, without pictures (an ST folder, or ``.h5ad`` files), kept beside the sections: what the gene encoder
    may learn from, see ``genes.pretrain_steps``."""


FOLDS = ("k-fold", "leave-one-patient-out")
"""Kinds of split that are several; each names its own file."""


class Split(_Strict):
    """Which sections train and which are held out; grouped by patient unless said otherwise, aloud."""

    kind: Literal["fixed", "random", "k-fold", "leave-one-patient-out", "spatial-blocks"] | None = None
    """``fixed``: the sections named below; ``random``: a share of the patients; ``k-fold`` and ``leave-one-patient-out``:
    every patient is held out once, in one of several splits; ``spatial-blocks``: the far end of every section. By
    default fixed when sections are named, else random, and blocks when there is but one patient."""
    fold: int = Field(0, ge=0)
    """Which of the folds this run holds out, from 0."""
    folds: int = Field(5, ge=2)
    """How many folds ``k-fold`` makes."""
    stratify: str | None = "site"
    """Column of the manifest whose values are spread evenly over the folds; where no section has it, none is."""
    name: str = "default"
    train: tuple[str, ...] = ()
    """Section ids; when all three are empty, patients are drawn at random by ``seed``."""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    held_out_share: float = Field(0.34, gt=0, lt=1)
    """Share of patients held out when the sections are not named."""
    allow_shared_patient: bool = False
    """A patient on both sides of the split is refused unless this is set; the card then says so."""

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_fold(cls, tree: Any) -> Any:
        """Folds name their own files, so that whatever asks for a recipe's split by name gets this fold."""
        if not isinstance(tree, dict) or tree.get("kind") not in FOLDS:
            return tree
        fold = tree.get("fold", 0)
        whole = f"-of-{tree.get('folds', 5)}" if tree["kind"] == "k-fold" else ""
        return {**tree, "name": f"{'fold' if whole else 'left-out'}-{fold}{whole}"}


class Windows(_Strict):
    """Squares the models see."""

    size_px: int = Field(256, ge=32, multiple_of=32)
    reach_um: float = Field(150.0, gt=0)
    """Spots within this distance of the window's centre condition it."""
    max_spots: int = Field(7, ge=1)


class Autoencoder(_Strict):
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


class GeneEncoder(_Strict):
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


class Clip(_Strict):
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


Attention = Literal["coarse", "tokens", "everywhere"]


class Denoiser(_Strict):
    """The network that turns noise into latents."""

    kind: Literal["unet", "dit", "stable-diffusion"] = "unet"
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = Field(1, ge=1)
    """A level of the UNet; of the DiT, in all. A UNet to go on from that has fewer is given what it lacks, silent at first."""
    heads_of: int = Field(32, ge=8)
    """Channels an attention head."""
    attention: Attention = "coarse"
    """Of ``unet``. All coarser levels hear tokens and attend to themselves; the finest, where that costs most, does neither
    (``coarse``), hears tokens alone (``tokens``), or does both (``everywhere``). A start is given what it lacks, silent at
    first."""
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


class Loop(_Strict):
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
    optimiser: Literal["adamw", "adamw-fused", "adamw-8bit"] = "adamw"
    """``adamw-fused``: one kernel a step; ``adamw-8bit``: moments in 8 bits, needs a GPU and bitsandbytes."""
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
        "optimiser adamw-8bit": loop.optimiser == "adamw-8bit",
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


class Stage(_Strict):
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
    """Compile the denoiser (``torch.compile``): a minute or two at the start, then more steps a second on a GPU."""
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


class Sampling(_Strict):
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


class Evaluation(_Strict):
    """The card."""

    windows: int = Field(200, ge=8)
    """At most this many held-out windows, spread evenly; every subject gets the same number."""
    noise_seeds: tuple[int, ...] = (0,)
    part: Literal["validation", "test"] = "test"
    """The part of the split that is judged; the other held-out part, when there is one, is the other patient."""
    primary: str = "recovery_gain"
    recovery_genes: int = Field(200, ge=5)
    usefulness: int = Field(0, ge=0)
    """Labelled training windows that classifiers of tissue are taught, and whose spots are painted once a noise seed, to
    find out whether synthetic patches are of use; 0 leaves these rows out."""
    derange_um: float = Field(500.0, ge=0)
    bootstrap: int = Field(200, ge=50)
    lpips_weights: str | None = None
    inception_weights: str | None = None
    """The 2015 Inception weights: a file, a folder, or ``https://…#sha256=…``. By default torch's cache is looked
    into; without them no row is called FID. See docs/fid.md."""
    inception_torchscript: bool = False
    """Whether these weights may be TorchScript; it runs code of its own."""
    notes: tuple[str, ...] = ()


class Analysis(_Strict):
    """What a run does with its generator after the card."""

    steps: tuple[Literal["figures", "compartments", "components", "subtypes", "latent"], ...] = ()
    most: int | None = Field(None, ge=8)
    """At most this many spots a section, spread evenly; None takes all."""
    signals: tuple[str, ...] = ()
    """Genes, gene sets or clip for the figures; by default they are chosen on training tissue."""


class Ablation(_Strict):
    """Variants of a recipe that ``stainglass ablate`` trains and judges on one cohort, beside each other."""

    variants: dict[str, dict[str, Any]] = {}
    """Name → settings that differ from the recipe's."""
    training_seeds: tuple[int, ...] = (0, 1)
    """Every variant is trained once a seed: the spread between them is told apart from that of noise and of windows."""


class Recipe(_Strict):
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
    gene axis. ``autoencoder`` and ``denoiser`` (but for its ``attention`` and ``layers``) then say nothing, of
    ``train_autoencoder`` only what sharpens the decoder counts, and of ``genes`` how counts are thinned, dropped and moved."""
    train_autoencoder: AutoencoderLoop = AutoencoderLoop()
    train_clip: AlignLoop = AlignLoop()
    train_denoiser: DenoiserLoop = DenoiserLoop()
    distil: DistilLoop = DistilLoop()
    polish: PolishLoop = PolishLoop()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    analysis: Analysis = Analysis()
    ablation: Ablation = Ablation()

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
