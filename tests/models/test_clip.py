"""CLIP: gradient caching, false negatives, towers, and what it saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stainglass.cohort.windows import Conditions
from stainglass.errors import StainglassError
from stainglass.models.clip import ClipFacts, TissueCLIP, in_chunks, info_nce
from stainglass.models.features import EfficientNetLite0
from stainglass.models.genecondnet import GeneCondNet
from stainglass.models.towers import TimmTower, TransformersTower, load_tower


def small_clip(**changes: object) -> TissueCLIP:
    torch.manual_seed(0)
    settings = {
        "genes": 12,
        "width": 32,
        "tokens": 2,
        "top_k": 5,
        "widths": (16, 24),
        "image_px": 32,
        "dim": 16,
    }
    clip = TissueCLIP(**{**settings, **changes})  # type: ignore[arg-type]
    clip.facts = ClipFacts(
        tuple("abcdefghijkl"), tuple("ABCDEFGHIJKL"), 1.0, 64, 150.0, 3, ("S1",), ("P1",), None
    )  # fmt: skip
    return clip.eval()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(4.0, (6, 12)).astype(np.float32)


SIZES = np.full(6, 55.0, np.float32)


def told(counts: np.ndarray) -> Conditions:
    """Spots alone in their windows."""
    n, g = counts.shape
    shape = (n, 1)
    return Conditions(
        counts.reshape(n, 1, g), np.zeros((n, 1, 2), np.float32), np.full(shape, 55.0, np.float32),
        np.ones(shape, bool), tuple((str(i),) for i in range(n)),
    )  # fmt: skip


def test_vectors_are_unit_and_do_not_depend_on_the_batch(pixels: np.ndarray, counts: np.ndarray) -> None:
    clip = small_clip()
    images, genes = clip.embed_images(pixels), clip.embed_genes(told(counts))
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(genes, axis=1), 1, atol=1e-5)
    assert np.allclose(clip.embed_images(pixels[2:3])[0], images[2], atol=1e-5)
    assert np.allclose(clip.embed_genes(told(counts[2:3]))[0], genes[2], atol=1e-5)


def test_gradient_caching_gives_the_gradient_of_the_whole_batch(
    pixels: np.ndarray, counts: np.ndarray
) -> None:
    seen = torch.from_numpy(pixels).movedim(-1, 1).float() / 255
    spots, sizes = torch.from_numpy(counts), torch.from_numpy(SIZES)

    def gradient(chunk: int) -> list[torch.Tensor]:
        clip = small_clip()
        images = in_chunks(clip.image_vectors, chunk, seen)
        genes = in_chunks(clip.gene_vectors, chunk, spots, sizes)
        info_nce(images, genes, clip.scale).backward()
        return [p.grad for p in clip.parameters() if p.grad is not None]

    whole, chunked = gradient(6), gradient(2)
    assert len(whole) == len(chunked) > 20
    for one, other in zip(whole, chunked):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_info_nce_is_log_n_for_unrelated_vectors_and_small_for_matched_ones() -> None:
    vectors = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    same = torch.ones(8, 16) / 4
    assert info_nce(same, same, torch.tensor(10.0)).item() == pytest.approx(np.log(8), rel=1e-5)
    assert info_nce(vectors, vectors, torch.tensor(50.0)).item() < 0.01


def test_nearly_equal_spots_are_no_negatives_of_each_other() -> None:
    vectors = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors[1] = vectors[0]
    alike = torch.eye(4, dtype=torch.bool)
    blamed = info_nce(vectors, vectors, torch.tensor(50.0), alike)
    alike[0, 1] = alike[1, 0] = True
    spared = info_nce(vectors, vectors, torch.tensor(50.0), alike)
    assert blamed.item() > 0.3  # half of the batch cannot tell itself from its twin
    assert spared.item() < 0.01


def test_saves_and_loads_whole(tmp_path: Path, pixels: np.ndarray, counts: np.ndarray) -> None:
    clip = small_clip()
    clip.save(tmp_path / "clip")
    again = TissueCLIP.load(tmp_path / "clip")
    assert again.facts == clip.facts
    assert np.array_equal(again.embed_images(pixels), clip.embed_images(pixels))
    assert np.array_equal(again.embed_genes(told(counts)), clip.embed_genes(told(counts)))


def test_a_frozen_tower_is_neither_trained_nor_saved(tmp_path: Path, pixels: np.ndarray) -> None:
    clip = small_clip(tower="efficientnet-lite0", tower_width=1280)
    clip.fit_tower(EfficientNetLite0().features(pixels))
    images = clip.embed_images(pixels)
    clip.save(tmp_path / "clip")
    assert sum(f.stat().st_size for f in (tmp_path / "clip").iterdir()) < 400_000  # EfficientNet has 13 MB
    assert np.allclose(TissueCLIP.load(tmp_path / "clip").embed_images(pixels), images, atol=1e-5)


def test_refuses_what_is_no_clip(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="no CLIP here"):
        TissueCLIP.load(tmp_path)
    (tmp_path / "clip.json").write_text('{"format": 99}')
    with pytest.raises(StainglassError, match="format 2"):
        TissueCLIP.load(tmp_path)


def test_a_transformers_model_from_a_folder_is_a_tower(tmp_path: Path, pixels: np.ndarray) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path)
    normalisation = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(normalisation))
    tower = load_tower(str(tmp_path))
    assert isinstance(tower, TransformersTower)
    assert tower.mean == (0.5, 0.5, 0.5)
    assert tower.features(pixels).shape == (6, 32)


def test_towers_that_are_not_there_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="no image model"):
        load_tower(str(tmp_path))
    with pytest.raises(StainglassError, match="timm is not installed"):
        TimmTower("hf-hub:MahmoodLab/UNI")


def test_a_trunk_of_principal_components_has_as_many_as_were_asked_for() -> None:
    clip = TissueCLIP(60, "pca", 16, 2, tower_width=8, widths=(8,), dim=8, components=30)
    told = GeneCondNet(60, "pca", 16, 2, components=30)
    found = told.encoder.load_state_dict(clip.encoder.state_dict())
    assert not found.missing_keys
    assert {tuple(v.shape) for v in clip.encoder.state_dict().values()} >= {(30, 60)}
