"""Second objective: GeneCondNet and the denoiser, from crops of latent rasters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from stainglass.cohort.cohort import Cohort, PreparedSection
from stainglass.cohort.stain_variants import StainVariant
from stainglass.cohort.windows import Window, as_bulk, gather_conditions
from stainglass.config import DenoiserLoop, GeneEncoder
from stainglass.genes.axis import GeneAxis
from stainglass.models.autoencoder import decode_latents
from stainglass.models.clip import TissueCLIP
from stainglass.models.denoiser import hear, predict_velocity
from stainglass.models.flow import Flow
from stainglass.models.genecondnet import ConditionTensors, Embedded, GeneCondNet
from stainglass.models.solver import Velocity, integrate
from stainglass.models.turns import Frequency, turn_latents, turn_offsets, turn_plane
from stainglass.training.batches import Batch, rng_of
from stainglass.training.corrupt import SectionMean, corrupted, moved
from stainglass.training.crops import Places, hold_in_memory
from stainglass.training.loop import Objective
from stainglass.training.represent import Represent

PREVIEW_STEPS = 12


@dataclass(frozen=True)
class LatentSpace:
    """The autoencoder and what was fitted for it.

    Attributes
    ----------
    rasters
        Raster name by turn; a single one when turns can be done on latents.
    restained
        The same for each stain the sections were also given.
    stains
        These stains.
    """

    autoencoder: Any
    rasters: tuple[str, ...]
    mean: Float32[np.ndarray, c]
    std: Float32[np.ndarray, c]
    restained: tuple[tuple[str, ...], ...] = ()
    stains: tuple[StainVariant, ...] = ()

    @property
    def frequencies(self) -> tuple[Frequency, ...] | None:
        """How turns act on channels; None when every turn has a raster of its own."""
        found: tuple[Frequency, ...] | None = getattr(self.autoencoder, "frequencies", None)
        return found


@dataclass(frozen=True)
class _Spots:
    """What is told of a section's spots."""

    counts: Float32[np.ndarray, "spots g"]
    measured: Bool[np.ndarray, g]
    diameters_um: NDArray[np.float64]
    mean: SectionMean

    @classmethod
    def of(cls, section: PreparedSection, axis: GeneAxis, genes: GeneEncoder) -> _Spots:
        counts, measured = section.counts_on(axis)
        diameters = section.used_spots.obs["diameter_um"].to_numpy(dtype=np.float64)
        told = as_bulk(counts) if genes.told == "bulk" else counts
        return cls(told, measured, diameters, SectionMean(counts.mean(0), measured))


class LatentCrops:
    """Windows of latent rasters with the spots in reach, turned, thinned and now and then told nothing."""

    def __init__(
        self,
        cohort: Cohort,
        sections: Sequence[str],
        axis: GeneAxis,
        space: LatentSpace,
        genes: GeneEncoder,
        loop: DenoiserLoop,
        *,
        size_px: int,
        reach_um: float,
        max_spots: int,
        flow: Flow,
        clip: TissueCLIP | None = None,
    ) -> None:
        self.flow = flow
        self.clip = clip if loop.image_share > 0 else None
        self.space, self.genes, self.loop = space, genes, loop
        self.reach_um, self.max_spots = reach_um, max_spots
        self.places = Places(cohort, [name for name in sections if name not in loop.unpaired], size_px)
        untold = [name for name in sections if name in loop.unpaired]
        self.untold = Places(cohort, untold, size_px) if untold and loop.unpaired_share > 0 else None
        self.spots = {section.id: _Spots.of(section, axis, genes) for section in self._sections()}
        held = [raster for rasters in (space.rasters, *space.restained) for raster in rasters]
        hold_in_memory(self._sections(), *(f"latent/{raster}" for raster in held))
        if loop.representation > 0:
            hold_in_memory(self._sections(), "he/0")

    def _sections(self) -> list[PreparedSection]:
        return [*self.places.sections, *(self.untold.sections if self.untold is not None else ())]

    def example(self, position: int) -> dict[str, np.ndarray]:
        """One normalised latent window ``z``, its ``noise`` and level ``t``, and its condition."""
        rng = rng_of(self.loop.seed, position)
        places, unpaired = self.places, False
        if self.untold is not None and rng.random() < self.loop.unpaired_share:
            places, unpaired = self.untold, True
        which, window = places.draw(rng, anywhere=rng.random() < self.loop.anywhere_share)
        section, spots = places.sections[which], self.spots[places.sections[which].id]
        turn = int(rng.integers(8)) if self.loop.turns else 0
        told = gather_conditions(
            window.centre_um_yx(section.mpp)[None],
            places.centres[which],
            spots.counts,
            spots.diameters_um,
            section.used_spots.obs_names,
            self.reach_um,
            self.max_spots,
        )
        rasters, stain = self.space.rasters, None
        if self.space.restained:
            number = int(rng.integers(1 + len(self.space.restained)))
            if number > 0:
                rasters, stain = self.space.restained[number - 1], self.space.stains[number - 1]
        z = self._latents(section.latents(rasters[turn % len(rasters)], window), turn)
        null = rng.random() < self.loop.null_share or unpaired
        seen = partial(_pixels, section, window, turn, stain)
        image = self._image(seen, rng, null)
        no_genes = null or (image is not None and image.any())
        return {
            "z": z,
            "noise": self._noise(z.shape, rng),
            "t": np.asarray(self._level(rng), dtype=np.float32),
            "counts": self._counts(told.counts[0], section.id, rng),
            "offsets_um_yx": turn_offsets(torch.from_numpy(told.offsets_um_yx[0]), turn).numpy(),
            "diameters_um": told.diameters_um[0],
            "present": self._present(told.present[0], rng) & (not no_genes),
            "measured": spots.measured,
            **({} if image is None else {"images": image}),
            **({"pixels": seen()} if self.loop.representation > 0 else {}),
        }

    def _counts(
        self, counts: Float32[np.ndarray, "s g"], section: str, rng: np.random.Generator
    ) -> np.ndarray:
        """Thinned, with genes dropped, and now and then moved towards another section."""
        told = corrupted(counts, self.genes, rng)
        others = [one.id for one in self.places.sections if one.id != section]
        if not others or self.genes.section_shift == 0 or rng.random() >= self.genes.section_shift:
            return told
        other = others[int(rng.integers(len(others)))]
        return moved(told, self.spots[section].mean, self.spots[other].mean, rng)

    def _level(self, rng: np.random.Generator) -> float:
        return self.flow.draw(rng) if self.loop.times == "flow" else self.flow.top * rng.random()

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Float32[np.ndarray, "c h w"]:
        """Standard normal noise, its channels shifted as a whole when the recipe says so (Guttenberg 2023)."""
        noise = rng.standard_normal(shape, dtype=np.float32)
        if self.loop.noise_offset > 0:
            noise += self.loop.noise_offset * rng.standard_normal((shape[0], 1, 1), dtype=np.float32)
        return noise

    def _image(
        self, seen: Callable[[], UInt8[np.ndarray, "size size 3"]], rng: np.random.Generator, null: bool
    ) -> Float32[np.ndarray, d] | None:
        """CLIP's embedding of the picture itself, told instead of genes; None when this run tells no pictures."""
        if self.clip is None:
            return None
        if null or rng.random() >= self.loop.image_share:
            return np.zeros(self.clip.length, np.float32)
        return self.clip.embed_images(seen()[None])[0]

    def _latents(self, raw: np.ndarray, turn: int) -> Float32[np.ndarray, "c h w"]:
        z = turn_latents(torch.from_numpy(raw.astype(np.float32)), turn, self.space.frequencies).numpy()
        return np.ascontiguousarray((z - self.space.mean[:, None, None]) / self.space.std[:, None, None])

    def _present(self, present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Drop whole spots, never the last one."""
        kept = present & (rng.random(present.shape) >= self.genes.spot_dropout)
        return kept if kept.any() else present


def _pixels(
    section: PreparedSection, window: Window, turn: int, stain: StainVariant | None
) -> UInt8[np.ndarray, "size size 3"]:
    """A window as its latents have it: turned, and in the stain they were encoded in."""
    found = section.pixels(window)
    pixels = torch.from_numpy(found if stain is None else stain.of(section.id, found)).movedim(-1, 0)
    return np.ascontiguousarray(turn_plane(pixels, turn).movedim(0, -1).numpy())


def conditions_of(batch: Batch) -> ConditionTensors:
    """The condition part of a batch."""
    return ConditionTensors(
        batch["counts"], batch["offsets_um_yx"], batch["diameters_um"], batch["present"], batch["measured"],
        batch.get("images"),
    )  # fmt: skip


class Following:
    """The examples after the first so many: a stage of training goes on where the one before it ended."""

    def __init__(self, examples: LatentCrops, first: int) -> None:
        self.examples, self.first = examples, first

    def example(self, position: int) -> dict[str, np.ndarray]:
        """The example at a position of this stage."""
        return self.examples.example(self.first + position)


class Denoise(Objective):
    """‖v_θ(x_t, t, condition) − (ε − z)‖², each latent channel weighed by its deviation, each noise level by the flow.

    Whitened latents alone would give the faintest detail as much say as the brightness of a whole block, and
    pixels alone (weights by variance) would give detail none; the deviation stands half-way.

    Parameters
    ----------
    flow
        Of the denoiser.
    pooled
        Whether a denoiser of Stable Diffusion's family is told the pooled vector.
    min_snr
        γ of min-SNR-γ, or None.
    direction
        Weight of 1 − cosine between the velocity and ε − z, window by window (Yao et al. 2024).
    representation
        Weight of what `Represent` says; 0 does without its frozen network.
    preview
        Windows that `picture` shows.
    """

    channel_weight: Tensor

    def __init__(
        self,
        condnet: GeneCondNet,
        denoiser: nn.Module,
        space: LatentSpace,
        flow: Flow,
        preview: Batch | None = None,
        *,
        pooled: bool = True,
        min_snr: float | None = None,
        direction: float = 0.0,
        representation: float = 0.0,
    ) -> None:
        super().__init__()
        self.condnet, self.denoiser, self._direction = condnet, denoiser, direction
        self.represent, self._representation = (
            Represent(denoiser) if representation > 0 else None,
            representation,
        )
        self._space = [
            space
        ]  # in a list, so that the frozen autoencoder is not trained or saved with this module
        self._flow, self._pooled, self._min_snr, self._preview = flow, pooled, min_snr, preview
        weight = torch.from_numpy(space.std / space.std.mean())[:, None, None]
        self.register_buffer("channel_weight", weight, persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        z, noise, t = batch["z"], batch["noise"], batch["t"]
        at = t[:, None, None, None]
        v = predict_velocity(self.denoiser, (1 - at) * z + at * noise, t, self._told(batch), self._flow)
        wanted = noise - z
        squared = (v - wanted).pow(2)
        weight = self._flow.loss_weight(t, self._min_snr)[:, None, None, None]
        loss = (weight * self.channel_weight * squared).mean()
        if self._direction > 0:
            turned = 1 - nn.functional.cosine_similarity(v.flatten(1), wanted.flatten(1))
            loss = loss + self._direction * turned.mean()
        told = {"unweighted": squared.detach().mean()}
        if self.represent is not None:
            unlike = self.represent(batch["pixels"])
            loss, told["unlike"] = loss + self._representation * unlike, unlike.detach()
        return loss, told

    def _told(self, batch: Batch) -> Embedded:
        return hear(self.denoiser, self.condnet(conditions_of(batch)), self.condnet, self._pooled)

    @torch.no_grad()
    def picture(self) -> np.ndarray | None:
        """Real windows above (through the autoencoder), painted from the same conditions below."""
        if self._preview is None:
            return None
        space = self._space[0]
        device = next(self.parameters()).device
        batch = {key: value.to(device) for key, value in self._preview.items()}
        told = self._told(batch)

        def velocity(x: Tensor, t: float) -> Tensor:
            level = torch.full((len(x),), t, device=device)
            return predict_velocity(self.denoiser, x, level, told, self._flow)

        # A compiled denoiser would be compiled anew for the few windows of a preview.
        with torch.compiler.set_stance("force_eager"):
            painted = self._sampled(velocity, batch["noise"])
        mean, std = (torch.from_numpy(v).to(device)[:, None, None] for v in (space.mean, space.std))
        rows = [
            decode_latents(space.autoencoder, z * std + mean).cpu().numpy() for z in (batch["z"], painted)
        ]
        return np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)

    def _sampled(self, velocity: Velocity, noise: Tensor) -> Tensor:
        return integrate(velocity, noise, "unipc", PREVIEW_STEPS, self._flow)
