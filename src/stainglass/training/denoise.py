"""Second objective: GeneCondNet and the denoiser, from crops of latent rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from stainglass.cohort.cohort import Cohort, PreparedSection
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
from stainglass.training.corrupt import corrupted
from stainglass.training.crops import Places, hold_in_memory
from stainglass.training.loop import Batch, Objective, rng_of

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
        These stains, as `StainVariant.told` tells them.
    """

    autoencoder: Any
    rasters: tuple[str, ...]
    mean: Float32[np.ndarray, c]
    std: Float32[np.ndarray, c]
    restained: tuple[tuple[str, ...], ...] = ()
    stains: tuple[dict[str, Any], ...] = ()

    @property
    def frequencies(self) -> tuple[Frequency, ...] | None:
        """How turns act on channels; None when every turn has a raster of its own."""
        found: tuple[Frequency, ...] | None = getattr(self.autoencoder, "frequencies", None)
        return found


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
        self.places = Places(cohort, sections, size_px)
        self.space, self.genes, self.loop = space, genes, loop
        self.reach_um, self.max_spots = reach_um, max_spots
        self.counts, self.measured = [], []
        for section in self.places.sections:
            counts, measured = section.counts_on(axis)
            self.counts.append(as_bulk(counts) if genes.told == "bulk" else counts)
            self.measured.append(measured)
        self.diameters = [
            s.used_spots.obs["diameter_um"].to_numpy(dtype=np.float64) for s in self.places.sections
        ]
        held = [raster for rasters in (space.rasters, *space.restained) for raster in rasters]
        hold_in_memory(self.places.sections, *(f"latent/{raster}" for raster in held))

    def example(self, position: int) -> dict[str, np.ndarray]:
        """One normalised latent window ``z``, its ``noise`` and level ``t``, and its condition."""
        rng = rng_of(self.loop.seed, position)
        which, window = self.places.draw(rng, anywhere=rng.random() < self.loop.anywhere_share)
        section = self.places.sections[which]
        turn = int(rng.integers(8)) if self.loop.turns else 0
        told = gather_conditions(
            window.centre_um_yx(section.mpp)[None],
            self.places.centres[which],
            self.counts[which],
            self.diameters[which],
            section.used_spots.obs_names,
            self.reach_um,
            self.max_spots,
        )
        rasters = self.space.rasters
        if self.space.restained:
            stained = (rasters, *self.space.restained)
            rasters = stained[int(rng.integers(len(stained)))]
        z = self._latents(section.latents(rasters[turn % len(rasters)], window), turn)
        null = rng.random() < self.loop.null_share
        image = self._image(section, window, turn, rng, null)
        no_genes = null or (image is not None and image.any())
        return {
            "z": z,
            "noise": self._noise(z.shape, rng),
            "t": np.asarray(self._level(rng), dtype=np.float32),
            "counts": corrupted(told.counts[0], self.genes, rng),
            "offsets_um_yx": turn_offsets(torch.from_numpy(told.offsets_um_yx[0]), turn).numpy(),
            "diameters_um": told.diameters_um[0],
            "present": self._present(told.present[0], rng) & (not no_genes),
            "measured": self.measured[which],
            **({} if image is None else {"images": image}),
        }

    def _level(self, rng: np.random.Generator) -> float:
        return self.flow.draw(rng) if self.loop.times == "flow" else self.flow.top * rng.random()

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Float32[np.ndarray, "c h w"]:
        """Standard normal noise, its channels shifted as a whole when the recipe says so (Guttenberg 2023)."""
        noise = rng.standard_normal(shape, dtype=np.float32)
        if self.loop.noise_offset > 0:
            noise += self.loop.noise_offset * rng.standard_normal((shape[0], 1, 1), dtype=np.float32)
        return noise

    def _image(
        self, section: PreparedSection, window: Window, turn: int, rng: np.random.Generator, null: bool
    ) -> Float32[np.ndarray, d] | None:
        """CLIP's embedding of the picture itself, told instead of genes; None when this run tells no pictures."""
        if self.clip is None:
            return None
        if null or rng.random() >= self.loop.image_share:
            return np.zeros(self.clip.length, np.float32)
        pixels = torch.from_numpy(section.pixels(window)).movedim(-1, 0)
        turned = turn_plane(pixels, turn).movedim(0, -1).contiguous().numpy()
        return self.clip.embed_images(turned[None])[0]

    def _latents(self, raw: np.ndarray, turn: int) -> Float32[np.ndarray, "c h w"]:
        z = turn_latents(torch.from_numpy(raw.astype(np.float32)), turn, self.space.frequencies).numpy()
        return np.ascontiguousarray((z - self.space.mean[:, None, None]) / self.space.std[:, None, None])

    def _present(self, present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Drop whole spots, never the last one."""
        kept = present & (rng.random(present.shape) >= self.genes.spot_dropout)
        return kept if kept.any() else present


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
    ) -> None:
        super().__init__()
        self.condnet, self.denoiser, self._direction = condnet, denoiser, direction
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
        return loss, {"unweighted": squared.detach().mean()}

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

        painted = self._sampled(velocity, batch["noise"])
        mean, std = (torch.from_numpy(v).to(device)[:, None, None] for v in (space.mean, space.std))
        rows = [
            decode_latents(space.autoencoder, z * std + mean).cpu().numpy() for z in (batch["z"], painted)
        ]
        return np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)

    def _sampled(self, velocity: Velocity, noise: Tensor) -> Tensor:
        return integrate(velocity, noise, "unipc", PREVIEW_STEPS, self._flow)
