"""How often the card's intervals hold the truth, by how many blocks of tissue there are.

    python -m benchmarks.intervals [--repeats 400]

Spots every 100 µm have the value of their block of 1,000 µm plus noise; the true mean is zero.
"""

from __future__ import annotations

import argparse

import numpy as np

from stainglass.evaluation.resampling import Resampling

BLOCK_UM = 1000.0
TISSUES = {  # sections, blocks down, blocks across
    "one section of 6 × 6 blocks": (1, 6, 6),
    "one of 4 × 2": (1, 4, 2),
    "two of 2 × 2": (2, 2, 2),
    "three of 1 × 3": (3, 1, 3),
    "four of 1 × 2": (4, 1, 2),
}


def held(sections: int, down: int, across: int, repeats: int) -> tuple[float, float, float]:
    """Share of 95 % intervals that hold zero, share that lie above it, and the drawn deviation over the true one."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[50 : down * BLOCK_UM : 100, 50 : across * BLOCK_UM : 100]
    one = np.column_stack([y.ravel(), x.ravel()])
    centres, names = np.tile(one, (sections, 1)), [f"S{k}" for k in range(sections) for _ in range(len(one))]
    block = (one // BLOCK_UM @ [across, 1]).astype(int)
    of_spot = np.concatenate([block + k * down * across for k in range(sections)])
    inside, above, deviations, found = 0, 0, [], []
    for _ in range(repeats):
        values = rng.normal(size=sections * down * across)[of_spot] + rng.normal(size=len(centres))
        estimate = Resampling.of(centres, names, BLOCK_UM, 200, rng).mean(values)
        inside += estimate.low <= 0 <= estimate.high
        above += estimate.low > 0
        deviations.append(estimate.draws.std())
        found.append(estimate.value)
    return inside / repeats, above / repeats, float(np.mean(deviations) / np.std(found))


def main() -> None:
    """Print one row a tissue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    print(
        "| tissue | intervals that hold the truth | that lie above it | deviation drawn / true |\n|---|---|---|---|"
    )
    for name, shape in TISSUES.items():
        inside, above, ratio = held(*shape, repeats)
        print(f"| {name} | {inside:.2f} | {above:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
