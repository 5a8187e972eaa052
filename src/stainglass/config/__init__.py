"""One typed tree for a whole run: a recipe. Unknown keys are refused. How it comes from YAML: ``recipe_files``."""

from stainglass.config.data import FOLDS, Prepare, Simulate, Split, Windows
from stainglass.config.loops import (
    AlignLoop,
    AutoencoderLoop,
    DenoiserLoop,
    DistilLoop,
    Loop,
    PolishLoop,
    Stage,
)
from stainglass.config.networks import Attention, Autoencoder, Clip, Denoiser, GeneEncoder
from stainglass.config.recipe import Ablation, Analysis, Evaluation, Recipe, Sampling

__all__ = [
    "FOLDS", "Ablation", "AlignLoop", "Analysis", "Attention", "Autoencoder", "AutoencoderLoop", "Clip", "Denoiser",
    "DenoiserLoop", "DistilLoop", "Evaluation", "GeneEncoder", "Loop", "PolishLoop", "Prepare", "Recipe", "Sampling",
    "Simulate", "Split", "Stage", "Windows",
]  # fmt: skip
