"""CLIP of tissue: an image tower and the gene encoder trunk in one space (Radford et al. 2021), beside a linear part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, write_json
from stainglass.genes.axis import GeneAxis
from stainglass.models.features import in_batches, to_unit
from stainglass.models.gene_encoder import GeneEncoder, GeneInput
from stainglass.models.linear_clip import Groups, LinearPart
from stainglass.models.texture import Texture
from stainglass.models.towers import CONVNET, ConvTower, FrozenTower, load_tower
from stainglass.progress import Advance

FORMAT = 2
FACTS_FILE = "clip.json"
START_TEMPERATURE, MOST_SCALE = 0.07, 100.0
BATCH = 64


@dataclass(frozen=True)
class ClipFacts:
    """What travels with a CLIP.

    Attributes
    ----------
    gene_ids, gene_symbols
        Its gene axis, most variable first.
    mpp, window_px, reach_um, max_spots
        Scale, side and reach of the windows it was trained on.
    trained_on, patients
        Sections, and whose they are.
    tower
        The frozen network behind its image tower, which therefore judges no card; None for our own ConvNet.
    """

    gene_ids: tuple[str, ...]
    gene_symbols: tuple[str, ...]
    mpp: float
    window_px: int
    reach_um: float
    max_spots: int
    trained_on: tuple[str, ...]
    patients: tuple[str, ...]
    tower: str | None

    @property
    def axis(self) -> GeneAxis:
        """The gene axis."""
        return GeneAxis(self.gene_ids, self.gene_symbols)


class TissueCLIP(ModelMixin, ConfigMixin):
    """Windows and spots in one space: cosine tells how well they fit.

    A vector has two parts of unit length, weighed by ``linear_share``, so that a cosine is the weighted mean of both
    parts' cosines: what InfoNCE taught tower and trunk, and a linear part in closed form (`LinearPart`: texture, and a
    frozen network's features when there is one, against expression of the spots in reach).

    Parameters
    ----------
    genes, input, width, tokens, top_k
        Of the gene tower; see `GeneEncoder`.
    tower
        ``convnet`` (ours, trained here) or a frozen network; see `load_tower`. A frozen network's weights are not
        saved with this model: they are loaded again from where they came.
    revision
        Of a frozen network on a hub.
    tower_width
        Length of a frozen network's features; 0 for ours.
    widths, image_px
        Of our ConvNet.
    dim
        Dimensions of the learned part.
    dropout
        Of the projection's inputs; sections have few spots.
    linear, linear_share, linear_width
        Dimensions of the linear part (0: none), its share of a cosine, length of its image features.
    """

    config_name = "config.json"
    tower_mean: Tensor
    tower_std: Tensor

    @register_to_config
    def __init__(
        self,
        genes: int,
        input: GeneInput = "set",
        width: int = 128,
        tokens: int = 4,
        top_k: int = 50,
        tower: str = CONVNET,
        revision: str | None = None,
        tower_width: int = 0,
        widths: tuple[int, ...] = (48, 96, 192),
        image_px: int = 128,
        dim: int = 128,
        dropout: float = 0.1,
        linear: int = 0,
        linear_share: float = 0.5,
        linear_width: int = 0,
        components: int = 50,
    ) -> None:
        super().__init__()
        self.encoder = GeneEncoder(genes, input, width, tokens, top_k, components)
        self.convnet = ConvTower(tuple(widths), image_px) if tower == CONVNET else None
        seen = self.convnet.width if self.convnet is not None else tower_width
        self.register_buffer("tower_mean", torch.zeros(seen))
        self.register_buffer("tower_std", torch.ones(seen))
        self.project_image = _projection(seen, dim, dropout)
        self.project_genes = _projection(width, dim, dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))
        self.closed_form = LinearPart(linear_width, genes, linear) if linear else None
        self.facts: ClipFacts | None = None
        self._frozen: list[FrozenTower] = []  # in a list: neither trained nor saved with this module

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Inverse temperature, at most 100."""
        return self.log_scale.exp().clamp(max=MOST_SCALE)

    @property
    def length(self) -> int:
        """Dimensions of the common space, both parts."""
        return int(self.config.dim + self.config.linear)

    @property
    def frozen_tower(self) -> FrozenTower | None:
        """The frozen network, loaded when it is first asked for; None for our ConvNet."""
        if self.convnet is not None:
            return None
        if not self._frozen:
            self._frozen.append(load_tower(self.config.tower, self.config.revision))
        return self._frozen[0]

    def fit_tower(self, features: Float32[np.ndarray, "n d"]) -> None:
        """Take mean and deviation of a frozen network's features from the training windows."""
        self.tower_mean.copy_(torch.from_numpy(features.mean(0)))
        self.tower_std.copy_(torch.from_numpy(features.std(0)).clamp_min(1e-4))

    def image_vectors(self, seen: Tensor) -> Float[Tensor, "b d"]:
        """Unit vectors of pictures: pixels in 0…1 (b, 3, h, w) for our ConvNet, features (b, f) of a frozen network."""
        if self.convnet is not None:
            seen = self.convnet(seen)
        return F.normalize(self.project_image((seen - self.tower_mean) / self.tower_std).float(), dim=-1)

    def gene_vectors(
        self,
        counts: Float[Tensor, "b g"],
        diameters_um: Float[Tensor, b],
        measured: Bool[Tensor, "b g"] | None = None,
    ) -> Float[Tensor, "b d"]:
        """Unit vectors of spots from raw counts on the model's gene axis."""
        _, vector = self.encoder(counts, diameters_um, measured)
        return F.normalize(self.project_genes(vector).float(), dim=-1)

    @torch.no_grad()
    def embed_images(
        self,
        pixels: UInt8[np.ndarray, "n h w 3"],
        groups: Groups | None = None,
        advance: Advance | None = None,
    ) -> Float32[np.ndarray, "n d"]:
        """Unit vectors of pictures.

        Parameters
        ----------
        groups
            Section of each; pictures of one are then seen relative to one another by the linear part. None: each
            picture by itself, relative to the training sections.
        """
        frozen = self.frozen_tower
        if frozen is None:
            device = self.tower_mean.device
            learned = in_batches(pixels, lambda x: self.image_vectors(x.to(device)).cpu(), BATCH, advance)
            seen = None
        else:
            seen = frozen.features(pixels, advance)
            learned = self.image_vectors(torch.from_numpy(seen).to(self.tower_mean.device)).cpu().numpy()
        if self.closed_form is None:
            return np.asarray(learned, np.float32)
        return self._both(self.closed_form.images(linear_features(pixels, seen), groups), learned)

    @torch.no_grad()
    def embed_genes(self, conditions: Conditions, groups: Groups | None = None) -> Float32[np.ndarray, "n d"]:
        """Unit vectors of the spots in the centres of windows, the linear part with all in reach.

        Parameters
        ----------
        conditions
            Of patches, on this model's gene axis and reach.
        groups
            As for `embed_images`.
        """
        device, found = self.tower_mean.device, []
        for first in range(0, len(conditions), BATCH):
            some = conditions.take(range(first, min(first + BATCH, len(conditions))))
            counts = torch.from_numpy(some.counts[:, 0]).to(device)
            sizes = torch.from_numpy(some.diameters_um[:, 0]).to(device)
            measured = None if some.measured is None else torch.from_numpy(some.measured).to(device)
            found.append(self.gene_vectors(counts, sizes, measured).cpu().numpy())
        learned = np.concatenate(found).astype(np.float32)
        if self.closed_form is None:
            return learned
        return self._both(self.closed_form.genes(conditions.counts, conditions.present, groups), learned)

    def _both(
        self, linear: Float32[np.ndarray, "n l"], learned: Float32[np.ndarray, "n d"]
    ) -> Float32[np.ndarray, "n l+d"]:
        share = self.config.linear_share
        return np.concatenate([share**0.5 * linear, (1 - share) ** 0.5 * learned], 1).astype(np.float32)

    def pixels_of(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Tensor:
        """Pictures as `image_vectors` wants them."""
        frozen = self.frozen_tower
        return to_unit(pixels) if frozen is None else torch.from_numpy(frozen.features(pixels))

    def save(self, folder: Path) -> None:
        """Write the model and its facts whole, or not at all."""
        if self.facts is None:
            raise ValueError("set clip.facts first: a CLIP without its gene axis is of no use")
        with atomic_path(folder) as temporary:
            self.save_pretrained(temporary, safe_serialization=True)
            write_json(temporary / FACTS_FILE, {"format": FORMAT, **asdict(self.facts)})

    @classmethod
    def load(cls, folder: str | Path) -> TissueCLIP:
        """Load a CLIP that `save` wrote.

        Raises
        ------
        StainglassError
            When there is none, or it has another format version.
        """
        path = Path(folder) / FACTS_FILE
        if not path.is_file():
            raise StainglassError(
                Path(folder), "no CLIP here", "Run 'stainglass align' with a recipe that has one"
            )
        tree = read_json(path, "CLIP")
        if not isinstance(tree, dict) or tree.pop("format", None) != FORMAT:
            raise StainglassError(path, f"not a CLIP of format {FORMAT}", "Align again with this version")
        model: TissueCLIP = cls.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        model.facts = ClipFacts(**values)
        model.eval().requires_grad_(False)
        return model


def linear_features(
    pixels: UInt8[np.ndarray, "n h w 3"], seen: Float32[np.ndarray, "n f"] | None
) -> Float32[np.ndarray, "n l"]:
    """What the linear part sees of pictures: texture, beside a frozen network's features when there is one."""
    texture = Texture().features(pixels)
    return texture if seen is None else np.concatenate([texture, seen], 1)


def _projection(width: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim)
    )


def in_chunks(tower: Callable[..., Tensor], chunk: int, *inputs: Tensor) -> Tensor:
    """Run a tower chunk by chunk, keeping no activations: each chunk is run again in the backward pass.

    The gradient is that of one large batch, the memory that of one chunk (gradient caching, Gao et al. 2021).
    """
    parts = [
        checkpoint(tower, *(x[i : i + chunk] for x in inputs), use_reentrant=False)
        for i in range(0, len(inputs[0]), chunk)
    ]
    return torch.cat(parts)


def info_nce(
    images: Float[Tensor, "b d"],
    genes: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    alike: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE (van den Oord et al. 2018; Radford et al. 2021).

    Parameters
    ----------
    images, genes
        Unit vectors; row i of both belong together.
    scale
        Inverse temperature.
    alike
        Pairs that are no negatives of each other, because they are nearly the same spot; the diagonal is ignored.
    """
    logits = scale * images @ genes.T
    if alike is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(alike & ~own, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
