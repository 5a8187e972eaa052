"""First objective: an autoencoder that gives the picture back, and turns with it; then, a decoder that does not blur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stainglass.cohort.cohort import Cohort
from stainglass.models.autoencoder import TissueAutoencoder, cosine_basis, decode_latents, pixels_to_input
from stainglass.models.similarity import structural_similarity
from stainglass.models.turns import turn_latents, turn_plane
from stainglass.training.adversary import Adversary
from stainglass.training.batches import Batch, rng_of
from stainglass.training.crops import Places, hold_in_memory
from stainglass.training.loop import Objective


class PixelCrops:
    """Random crops of the rasters."""

    def __init__(self, cohort: Cohort, sections: Sequence[str], crop_px: int, seed: int) -> None:
        self.places = Places(cohort, sections, crop_px)
        self.seed = seed
        hold_in_memory(self.places.sections, "he/0")

    def example(self, position: int) -> dict[str, np.ndarray]:
        """``pixels`` (crop, crop, 3), ``turn`` 0…7 and latent ``noise_seed``."""
        rng = rng_of(self.seed, position)
        which, window = self.places.draw(rng, anywhere=True)
        return {
            "pixels": self.places.sections[which].pixels(window),
            "turn": np.asarray(rng.integers(8)),
            "noise_seed": np.asarray(rng.integers(2**31)),
        }


class Reconstruct(Objective):
    """|x̂ − x| + 2 (x̂ − x)² where x̂ is decoded from turned latents and x is the turned picture (EQ-VAE)."""

    def __init__(
        self,
        autoencoder: TissueAutoencoder,
        samples: Float[Tensor, "n 3 h w"] | None = None,
        latent_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_noise = latent_noise
        self._samples = samples

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch; one turn a batch, drawn with its first example."""
        pixels = pixels_to_input(batch["pixels"])
        turn = int(batch["turn"][0])
        latents = self.autoencoder.encode(pixels).latents
        generator = torch.Generator().manual_seed(int(batch["noise_seed"][0]))
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        turned = turn_latents(latents + self.latent_noise * noise, turn, self.autoencoder.frequencies)
        return self.loss(self.autoencoder.decode(turned).sample, turn_plane(pixels, turn))

    def loss(
        self, decoded: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a decoded picture beside the one it should be, and figures for the log."""
        error = decoded - wanted
        squared = error.pow(2).mean()
        return error.abs().mean() + 2 * squared, {"psnr_db": -10 * torch.log10(squared.detach() / 4)}

    @torch.no_grad()
    def picture(self) -> np.ndarray | None:
        """Samples above, their reconstructions below."""
        if self._samples is None:
            return None
        device = next(self.parameters()).device
        samples = self._samples.to(device)
        decoded = decode_latents(self.autoencoder, self.autoencoder.encode(samples).latents)
        real = ((samples.movedim(1, -1) + 1) * 127.5).round().to(torch.uint8)
        return np.concatenate([np.concatenate(list(row.cpu().numpy()), 1) for row in (real, decoded)], 0)


SIDE_PX, STRIDE_PX = 8, 2
AROUND_PX = 16
FINE = 3
FAINT = 1e-4
LATTICE = 40.0
"""Weight of the pattern beside that of the detail, which pulls towards it."""


class Sharpen(Reconstruct):
    """The error of `Reconstruct`, how unlike the structure is, and how far fine detail is off; the decoder alone is trained.

    What the latents do not tell is a guess, and the best guess in squared error is a blur. Structural similarity rather has
    what can be guessed at its full contrast (Zhao et al. 2017). And each place shall hold as much of every fine wave as the
    real one does, wherever its crests lie (as textures are told by the energy of filters: Portilla & Simoncelli 2000). The
    cheapest way to have it is one pattern everywhere, in step with the decoder's blocks; so the mean error at each place of a
    block shall be nothing. The encoder is left alone, so latent rasters and denoisers stay as they are.

    Parameters
    ----------
    texture
        Weight of the detail.
    similarity
        Weight of 1 − structural similarity.
    adversary
        Weight of what `Adversary` says; 0 does without.
    """

    waves: Tensor

    def __init__(
        self,
        autoencoder: TissueAutoencoder,
        samples: Float[Tensor, "n 3 h w"] | None = None,
        latent_noise: float = 0.0,
        *,
        texture: float,
        similarity: float,
        adversary: float = 0.0,
    ) -> None:
        super().__init__(autoencoder, samples, latent_noise)
        self.texture, self.similarity, self._against = texture, similarity, adversary
        self.adversary = Adversary() if adversary > 0 else None
        autoencoder.requires_grad_(False)
        autoencoder.decoder.requires_grad_(True)
        fine = [(0, row, column) for row, column in np.ndindex(SIDE_PX, SIDE_PX) if max(row, column) >= FINE]
        grey = cosine_basis(fine, SIDE_PX).sum(1, keepdim=True) / 3**0.5
        self.register_buffer("waves", grey, persistent=False)

    def loss(
        self, decoded: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The error, what is unlike, the pattern, and the detail that is too little or too much."""
        error, told = super().loss(decoded, wanted)
        with torch.autocast(decoded.device.type, enabled=False):  # squares of faint waves need more than bf16
            decoded, wanted = decoded.float(), wanted.float()
            unlike = 1 - structural_similarity((decoded + 1) / 2, (wanted + 1) / 2).mean()
            # From one place alone, waves of twice the stride would be seen in one phase alone.
            from_y, from_x = torch.randint(STRIDE_PX, (2,)).tolist()
            details = [self.detail(x[..., from_y:, from_x:]) for x in (decoded, wanted)]
            gap = (details[0] - details[1]).abs().mean()
            pattern = lattice(decoded - wanted).abs().mean()
            told |= {"unlike": unlike.detach(), "detail": gap.detach(), "lattice": pattern.detach()}
            loss = error + self.similarity * unlike + self.texture * (gap + LATTICE * pattern)
            if self.adversary is not None:
                against, own, told["told_apart"] = self.adversary(
                    decoded[..., from_y:, from_x:], wanted[..., from_y:, from_x:]
                )
                loss = loss + self._against * against + own
        return loss, told

    def detail(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b*3 n y x"]:
        """Logarithm of each wave's energy around places 8 px apart, in red, green and blue.

        The waves are cosines of 8 × 8 px (no two neighbours more than 1/16 of a cycle a pixel apart, so that none of the spectrum
        falls between them) but for the coarsest, most of which latents tell. In opponent colours the faint ones, mostly noise,
        would have as much say as brightness.
        """
        energy = F.conv2d(pixels.flatten(0, 1)[:, None], self.waves, stride=STRIDE_PX).pow(2)
        around = AROUND_PX // STRIDE_PX
        return torch.log(F.avg_pool2d(energy, around, around // 2) + FAINT)


def lattice(error: Float[Tensor, "b c h w"]) -> Float[Tensor, "c 64"]:
    """Mean error at each place of a block of 8 × 8 px, over all blocks of the batch, but for the mean colour's."""
    places = F.pixel_unshuffle(error, SIDE_PX).mean((0, 2, 3)).unflatten(0, (error.shape[1], -1))
    return places - places.mean(1, keepdim=True)
