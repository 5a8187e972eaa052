"""How far painted tissue is from real tissue as a whole, told by distances between pictures: the energy distance.

``2 E‖g − x‖ − E‖g − g'‖ − E‖x − x'‖`` is zero where painted pictures g and real ones x are of one distribution, and positive
otherwise (Székely & Rizzo 2013). With the real x of one condition and two pictures painted from it,
``‖g − x‖ + ‖g' − x‖ − ‖g − g'‖`` is, on average, least where what is painted from a condition is what is found there (energy
score: Gneiting & Raftery 2007; as a training loss: Shen & Meinshausen 2024). No second network is trained against the first.
Terms of real pictures alone are left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

COMPONENTS = 150
"""Principal components that the whitened measure tells apart."""
FLOOR = 0.05
"""Added to the variance of each, so that those that hardly vary have no say."""
LEAST_DEVIATION = 1e-3
SAMPLE = 500
EPSILON = 1e-6


class Measure(nn.Module):
    """Two ways to tell features apart, each scaled so that two real ones are 1 apart on average.

    By standard deviations, most of what counts is how dark and how dense a place is; whitened, every way in which real places
    differ counts about alike.

    Parameters
    ----------
    real
        Features of real tissue, by which both are scaled.
    """

    mean: Tensor
    deviation: Tensor
    white: Tensor
    scales: Tensor

    def __init__(self, real: Float[Tensor, "n d"]) -> None:
        super().__init__()
        self._keep("mean", real.mean(0))
        self._keep("deviation", real.std(0) + LEAST_DEVIATION)
        z = ((real - self.mean) / self.deviation).double()
        _, singular, directions = torch.linalg.svd(z, full_matrices=False)
        variance = (singular**2 / len(z))[:COMPONENTS]
        white = directions[:COMPONENTS].T / (variance + FLOOR).sqrt()
        self._keep("white", white.to(real))
        self._keep("scales", real.new_ones(2))
        few = self(real[:: max(1, len(real) // SAMPLE)])
        self.scales.copy_(torch.stack([apart(part, part).mean() for part in few]))

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)  # found again from the same tissue

    def forward(self, features: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
        """The features as points, once a way."""
        z = (features - self.mean) / self.deviation
        return z / self.scales[0], (z @ self.white) / self.scales[1]


def apart(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Distances between all of one kind and all of another."""
    squared = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return (squared.clamp_min(0) + EPSILON).sqrt()


def energy_score(
    one: Float[Tensor, "n d"], other: Float[Tensor, "n d"], real: Float[Tensor, "n d"], spread: float = 1.0
) -> Float[Tensor, ""]:
    """Of two pictures painted from each condition and the real one of that place.

    Parameters
    ----------
    spread
        Share of the distance between the two that counts; below 1 the best pictures vary less than what is found.
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return ((x - y).square().sum(1) + EPSILON).sqrt()

    return (distance(one, real) + distance(other, real) - spread * distance(one, other)).mean()


def energy_distance(
    painted: Float[Tensor, "n d"],
    owners: Tensor,
    before: Float[Tensor, "m d"],
    real: Float[Tensor, "k d"],
) -> Float[Tensor, ""]:
    """Of what is painted to real tissue as a whole, but for the distances within the latter, which are 1 on average.

    Parameters
    ----------
    painted
        Features with a gradient.
    owners
        What each of them is of, a picture or a condition: those of one are not compared with each other.
    before
        Of pictures painted a little earlier, without one. They stand for more pictures of now, so the gradient counts
        both ends of a distance to them, as it does where both ends are here.
    real
        Of real tissue.
    """
    here = apart(painted, painted)[owners[:, None] != owners[None]].mean()
    there = apart(painted, before).mean()
    among = (here + 2 * there - there.detach()) / 2
    return 2 * apart(painted, real).mean() - among
