"""A network that learns to tell decoded pictures from real ones, for a decoder to learn from what it sees."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

WIDTHS = (48, 96, 192)
PENALTY = 0.1
"""Weight of both gradient penalties."""
LEAK = 0.2


class Adversary(nn.Module):
    """Relativistic pairs with zero-centred gradient penalties (R3GAN, Huang et al. 2024), patch by patch (Isola et al. 2017).

    Each decoded patch is compared with the real one at the same place. Patches are about 40 px wide, and without a norm, so
    that what is seen is texture and the edge of a nucleus, not the slide's colour.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.look = nn.Sequential(
            nn.Conv2d(3, first, 4, 2, 1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(first, second, 4, 2, 1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(second, third, 4, 2, 1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(third, 1, 3, 1, 1),
        )

    def forward(
        self, decoded: Float[Tensor, "b 3 h w"], real: Float[Tensor, "b 3 h w"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the decoder shall lower, what this network shall lower, and by how much it tells them apart.

        One sum of the first two may be descended: neither reaches the other's weights.
        """
        real, fake = real.detach().requires_grad_(), decoded.detach().requires_grad_()
        says_real, says_fake = self.look(real), self.look(fake)
        penalty = _steepness(says_real, real) + _steepness(says_fake, fake)
        own = F.softplus(says_fake - says_real).mean() + PENALTY * penalty
        resting = {name: parameter.detach() for name, parameter in self.look.named_parameters()}
        of_decoded = functional_call(self.look, resting, (decoded,))
        wanted = F.softplus(says_real.detach() - of_decoded).mean()
        return wanted, own, (says_real - says_fake).detach().mean()


def _steepness(says: Float[Tensor, "b 1 y x"], pixels: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Squared gradient of what is said of all patches together, over their number."""
    (gradient,) = torch.autograd.grad(says.sum(), pixels, create_graph=True)
    return gradient.pow(2).sum() / says.numel()
