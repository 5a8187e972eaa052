"""A refiner that learns to draw the detail which latents do not tell, as frozen eyes see it in tissue.

Two pictures are drawn over the same decoded window; they shall be to the real one what it is to them (energy score), and all of
them to all tissue (energy distance: `stainglass.training.energy`). Windows that the generator painted are drawn over too: of
those no real one is known, so as a whole alone they shall be like tissue. Encoder, decoder and denoiser rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stainglass.cohort.cohort import Cohort
from stainglass.cohort.splits import Split
from stainglass.config import Recipe, RefineLoop
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import TissueAutoencoder, pixels_to_input
from stainglass.models.eyes import Eyes
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.refiner import NOISE
from stainglass.progress import progress_bar
from stainglass.training.batches import Batch
from stainglass.training.denoise import LatentCrops, conditions_of
from stainglass.training.denoiser import preview_of
from stainglass.training.distil import crops_for
from stainglass.training.looks import BANK_BATCH, Look, banks, see
from stainglass.training.loop import Objective, train
from stainglass.training.precision import multiplying
from stainglass.training.processes import processes


class Refine(Objective):
    """Energy score and energy distance of refined pictures to real ones, in the eyes of frozen networks.

    Parameters
    ----------
    autoencoder
        Its refiner is trained.
    mean, std
        Of latents, a channel.
    eyes
        Frozen; each step one of them looks.
    loop
        Settings.
    preview
        Windows that `picture` shows.
    """

    mean: Tensor
    std: Tensor
    painted: Tensor

    def __init__(
        self,
        autoencoder: TissueAutoencoder,
        mean: Sequence[float],
        std: Sequence[float],
        eyes: Sequence[Eyes],
        loop: RefineLoop,
        preview: Batch | None = None,
    ) -> None:
        super().__init__()
        assert autoencoder.refiner is not None
        self.refiner: Any = autoencoder.refiner.requires_grad_(True)
        # In lists, so that what rests is neither trained nor saved with this module.
        self._autoencoder, self._eyes = [autoencoder], list(eyes)
        self._loop, self._preview = loop, preview
        self.looks_real, self.looks_painted = (
            nn.ModuleList(),
            nn.ModuleList(),
        )  # none until it has looked at tissue
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)
        self.register_buffer("painted", torch.zeros(0), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        look = int(torch.randint(len(self.looks_real), ()))
        real = pixels_to_input(batch["pixels"])
        corner = torch.randint(real.shape[-1] // 2 + 1, (2,)).tolist()
        drawn = self._drawn(self._decoded(batch["z"]).repeat(2, 1, 1, 1))
        with torch.no_grad():
            wanted = see(self._eyes, real, look, corner)
        seen = see(self._eyes, drawn, look, corner)
        with torch.autocast(real.device.type, enabled=False):
            score, distance = self.looks_real[look](seen, wanted)
        told = {"score": score.detach(), "distance": distance.detach()}
        loss = score + distance
        if self._loop.painted > 0:
            some = torch.randint(len(self.painted), (len(real),), device=self.painted.device)
            seen = see(self._eyes, self._drawn(self._decoded(self.painted[some])), look, corner)
            with torch.autocast(real.device.type, enabled=False):
                owners = torch.arange(len(real), device=real.device)
                beside: Any = self.looks_painted[look]
                away: Tensor = beside.distance(seen, owners)
            loss, told["painted"] = loss + self._loop.painted * away, away.detach()
        return loss, told

    @torch.no_grad()
    def _decoded(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        """What the decoder makes of normalised latents, without a refiner."""
        latents = z * self.std + self.mean
        pixels: Tensor = self._autoencoder[0].decode(latents, refined=False).sample
        return pixels.float()

    def _drawn(self, decoded: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        phase = 2 * math.pi * torch.rand(len(decoded), NOISE).to(decoded.device)
        pixels: Tensor = self.refiner(decoded, phase)
        return pixels.float().clamp(-1, 1)

    def look_at_tissue(self, examples: LatentCrops, first: int) -> None:
        """Fill the bank from the windows at these positions and after."""
        loop, device = self._loop, self.mean.device

        def real(positions: Sequence[int]) -> Tensor:
            pixels = np.stack([examples.example(at)["pixels"] for at in positions])
            return pixels_to_input(torch.from_numpy(pixels).to(device))

        for whole, cells in banks(self._eyes, real, first, loop.bank, loop.seed + 2, loop.precision):
            self.looks_real.append(Look(whole, cells, 2 * loop.batch, spread=1.0))
            self.looks_painted.append(Look(whole, cells, loop.batch, spread=1.0))

    @torch.no_grad()
    def look_at_painted(self, generator: TissuePipeline, examples: LatentCrops, first: int) -> None:
        """Paint windows of these positions and after, as the generator paints; each of several processes has its own."""
        assert generator.facts is not None
        group, loop, painted = processes(), self._loop, []
        batches = -(-loop.pool // (BANK_BATCH * group.num_processes))
        with progress_bar("painting what shall be refined", batches) as advance:
            for k in range(batches):
                at = first + (k * group.num_processes + group.process_index) * BANK_BATCH
                some = [examples.example(at + i) for i in range(BANK_BATCH)]
                batch = {
                    key: torch.from_numpy(np.stack([one[key] for one in some])).to(self.mean.device)
                    for key in some[0]
                }
                with multiplying(loop.precision, self.mean.device):
                    latents = generator.sample_latents(
                        conditions_of(batch), batch["noise"], generator.facts.sampler
                    )
                painted.append((latents.float() - self.mean) / self.std)
                advance()
        self.painted = torch.cat(painted)

    @torch.no_grad()
    def picture(self) -> np.ndarray | None:
        """Real windows, what is decoded of them, and that refined."""
        if self._preview is None:
            return None
        z, pixels = (self._preview[key].to(self.mean.device) for key in ("z", "pixels"))
        decoded = self._decoded(z)
        rows = [pixels_to_input(pixels), decoded, self.refiner(decoded)]
        shown = [
            ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).cpu().numpy() for x in rows
        ]
        return np.concatenate([np.concatenate(list(row), 1) for row in shown], 0)


def train_refiner(
    cohort: Cohort,
    split: Split,
    recipe: Recipe,
    generator: TissuePipeline,
    eyes: Sequence[Eyes],
    folder: Path,
    on_preview: Callable[[Path], None] | None = None,
) -> TissueAutoencoder:
    """Give a finished generator's autoencoder a fresh refiner and train it; see `require_refining`.

    Parameters
    ----------
    recipe
        Of its run; ``refine`` says how.
    folder
        ``refine/`` of the new run.
    """
    loop, facts = recipe.refine, generator.facts
    assert facts is not None
    crops = crops_for(generator, cohort, split, recipe, loop.seed, pixels=True)
    autoencoder: TissueAutoencoder = generator.autoencoder.with_refiner(loop.width, loop.blocks).eval()
    autoencoder.requires_grad_(False)
    if not torch.cuda.is_available():
        autoencoder.to(memory_format=torch.channels_last)
    shown = loop.steps * loop.batch * loop.accumulate * processes().num_processes
    objective = Refine(autoencoder, facts.latent_mean, facts.latent_std, eyes, loop, preview_of(crops, shown))
    device = processes().device
    for part in (objective, autoencoder, generator):
        part.to(device)
    objective.look_at_tissue(crops, 2 * shown)
    if loop.painted > 0:
        objective.look_at_painted(generator, crops, 3 * shown)
    train(objective, crops, loop, folder, "teaching a refiner", on_preview, together=True)
    return autoencoder


def require_refining(generator: TissuePipeline, name: Any) -> None:
    """Before anything is written.

    Raises
    ------
    StainglassError
        When the autoencoder is not ours.
    """
    if not isinstance(generator.autoencoder, TissueAutoencoder):
        raise StainglassError(
            name, "has an autoencoder that is not ours", "Refine a generator with our own autoencoder"
        )
