"""How pictures are looked at in training: by frozen eyes, in parts or at half the size, beside what these saw of tissue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from accelerate.utils import gather
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stainglass.errors import StainglassError
from stainglass.models.eyes import CELLS, Eyes, Seen
from stainglass.progress import progress_bar
from stainglass.training.batches import rng_of
from stainglass.training.energy import Measure, energy_distance, energy_score
from stainglass.training.precision import multiplying
from stainglass.training.processes import processes

WAYS = 2
"""Of each pair of eyes: at a part, and at half the size at the whole."""
AGO = 3
"""Steps back, of those in which the same eyes looked, whose pictures stand beside those of now."""
REAL = 1000
"""Real features that a step compares with, drawn from the bank."""
BANK_CELLS = 4
"""Cells of each window in the bank."""
BANK_BATCH = 16


def load_eyes(folders: Sequence[str], verb: str) -> list[Eyes]:
    """The frozen networks that a recipe's ``polish.eyes`` or ``refine.eyes`` names.

    Parameters
    ----------
    verb
        ``polish`` or ``refine``.

    Raises
    ------
    StainglassError
        When it names none, or what is no tiny autoencoder.
    """
    if not folders:
        raise StainglassError(
            f"{verb}.eyes", "names no network to look at pictures with",
            f"Set it to folders of diffusers' AutoencoderTiny: --set '{verb}.eyes=[TAESD3, TAESD]'",
        )  # fmt: skip
    return [Eyes.load(folder) for folder in folders]


def see(eyes: Sequence[Eyes], pictures: Float[Tensor, "b 3 h w"], look: int, corner: Sequence[int]) -> Seen:
    """What one of the eyes sees: of even looks the part of half the side at this corner (y, x), of odd ones the whole."""
    top, left = corner
    side = pictures.shape[-1] // 2
    part = pictures[..., top : top + side, left : left + side]
    seen: Seen = eyes[look // WAYS].to(pictures.device)(F.avg_pool2d(pictures, 2) if look % WAYS else part)
    return seen


@torch.no_grad()
def banks(
    eyes: Sequence[Eyes],
    pictures_of: Callable[[Sequence[int]], Tensor],
    first: int,
    windows: int,
    seed: int,
    precision: str,
) -> list[tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]]:
    """What every look sees of tissue, as a whole and in some cells; each of several processes looks at a share of it.

    Parameters
    ----------
    pictures_of
        Gives the pictures, in −1…1, of the windows at these positions.
    first
        Position of the first of the ``windows``.
    """
    group = processes()
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(WAYS * len(eyes))]
    batches = -(-windows // (BANK_BATCH * group.num_processes))
    with progress_bar("looking at tissue", batches) as advance:
        for k in range(batches):
            share = k * group.num_processes + group.process_index
            rng, at = rng_of(seed, share), first + share * BANK_BATCH
            with multiplying(precision, group.device):  # as pictures are seen in training
                real = pictures_of(range(at, at + BANK_BATCH))
                corner = [int(v) for v in rng.integers(real.shape[-1] // 2 + 1, size=2)]
                looks = [see(eyes, real, look, corner) for look in range(len(found))]
            for one, seen in zip(looks, found, strict=True):
                places = torch.from_numpy(rng.permutation(CELLS**2)[:BANK_CELLS]).to(real.device)
                seen.append((one.whole, one.cells[:, places].flatten(0, 1)))
            advance()
    together = [tuple(torch.cat(part) for part in zip(*seen, strict=True)) for seen in found]
    if group.num_processes > 1:
        together = [tuple(gather(part) for part in seen) for seen in together]
    return [(whole, cells) for whole, cells in together]


class Look(nn.Module):
    """One way to look at pictures: which frozen eyes, and whether at a part or, at half the size, at the whole.

    Parameters
    ----------
    whole, cells
        Of real tissue: the bank that painted pictures are compared with.
    pictures
        Painted a step, two from each condition.
    spread
        See `energy_score`.
    """

    def __init__(
        self, whole: Float[Tensor, "n d"], cells: Float[Tensor, "m d"], pictures: int, spread: float
    ) -> None:
        super().__init__()
        self.spread = spread
        self.whole, self.cells = Measure(whole), Measure(cells)
        for name, bank, kept in (
            ("whole", whole, AGO * pictures), ("cells", cells, AGO * pictures * CELLS**2)
        ):  # fmt: skip
            self.register_buffer(f"real_{name}", bank, persistent=False)
            # Until something has been painted, real ones stand for it: they push nowhere, on average.
            turns = torch.arange(kept) % len(bank)
            self.register_buffer(f"before_{name}", bank[turns].clone())

    def forward(self, painted: Seen, real: Seen) -> tuple[Tensor, Tensor]:
        """The energy score of the conditions, and the energy distances as a whole and of cells."""
        one, other, found = (self.whole(x) for x in (*painted.whole.chunk(2), real.whole))
        score = sum(energy_score(*parts, self.spread) for parts in zip(one, other, found, strict=True))
        # The two pictures of a condition are alike by it: as a pair they say nothing of how tissue varies.
        owners = torch.arange(len(real.whole), device=real.whole.device).repeat(2)
        return torch.as_tensor(score), self.distance(painted, owners)

    def distance(self, painted: Seen, owners: Tensor) -> Tensor:
        """The energy distances of pictures as a whole and of their cells; ``owners`` are the conditions they are of."""
        whole = self._distance("whole", painted.whole, owners)
        cells = painted.cells.flatten(0, 1)
        return whole + self._distance("cells", cells, owners.repeat_interleave(CELLS**2))

    def _distance(self, name: str, painted: Tensor, owners: Tensor) -> Tensor:
        measure, before = getattr(self, name), getattr(self, f"before_{name}")
        bank = getattr(self, f"real_{name}")
        drawn = bank[torch.randint(len(bank), (REAL,), device=bank.device)]
        points = zip(measure(painted), measure(before.clone()), measure(drawn), strict=True)
        total = sum(energy_distance(ours, owners, ago, real) for ours, ago, real in points)
        before.copy_(torch.cat([before[len(painted) :], painted.detach()]))
        return torch.as_tensor(total)
