"""The recipe many tests run."""

from __future__ import annotations

from pathlib import Path

from stainglass.config import Recipe
from stainglass.recipe_files import recipe_from_tree


def small_recipe(**changes: object) -> Recipe:
    """A recipe of the least size at which every part is real."""
    tree: dict[str, object] = {
        "name": "small",
        "prepare": {"mpp": 1.0},
        "windows": {"size_px": 64, "reach_um": 115.0, "max_spots": 4},
        "genes": {"genes": 60, "width": 32, "tokens": 2},
        "autoencoder": {"widths": [16, 32], "blocks": [1, 1]},
        "denoiser": {"widths": [16, 32], "heads_of": 16},
        "train_autoencoder": {"steps": 4, "batch": 2, "crop_px": 64, "warmup": 1, "log_every": 1},
        "train_denoiser": {"steps": 4, "batch": 2, "warmup": 1, "log_every": 1},
        "sampling": {"steps": 3},
    }
    return recipe_from_tree({**tree, **changes}, Path("small"))
