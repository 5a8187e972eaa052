from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from interrupted import stopped_and_gone_on
from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.models.eyes import Eyes
from stainglass.models.pipeline import REFINED, TissuePipeline
from stainglass.training import refine
from stainglass.training.denoise import LatentCrops
from stainglass.training.from_finished import refined_generator, require_sharpening
from stainglass.training.looks import load_eyes
from stainglass.training.refine import Refine, require_refining


@pytest.fixture(scope="module")
def eyes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("eyes") / "tiny"
    blocks = {"num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (1, 1, 1, 1)}
    AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, **blocks
    ).save_pretrained(folder)
    return folder


def plan(folder: Path, **changes: object) -> Recipe:
    loop = {"steps": 4, "batch": 2, "warmup": 1, "log_every": 1, "learning_rate": 5e-3, "bank": 32, "pool": 16,
            "width": 8, "blocks": 1, "eyes": [str(folder)], "precision": "no"}  # fmt: skip
    return small_recipe(refine={**loop, **changes}, half=True)


def refined(cohort: Cohort, run_folder: Path, recipe: Recipe, out: Path) -> TissuePipeline:
    generator = TissuePipeline.from_pretrained(run_folder / "generator")
    eyes = load_eyes(recipe.refine.eyes, "refine")
    return refined_generator(cohort, cohort.split(), recipe, "before", generator, eyes, out)


def test_all_but_the_refiner_rests_and_the_eyes_are_told(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path
) -> None:
    before = TissuePipeline.from_pretrained(run_folder / "generator")
    after = refined(cohort, run_folder, plan(eyes_folder), tmp_path)
    assert after.facts is not None
    for part in ("condnet", "denoiser", "autoencoder"):
        new = getattr(after, part).state_dict()
        for name, value in getattr(before, part).state_dict().items():
            torch.testing.assert_close(new[name], value, atol=2e-3, rtol=2e-3)  # but for half precision
    assert after.autoencoder.refiner.last.weight.abs().max() > 1e-3
    assert after.facts.training[REFINED].startswith("4 steps of 2 windows in the eyes of tiny ")
    assert [name.split()[0] for name in after.facts.took_part] == ["tiny"]
    latents = torch.randn(1, len(after.facts.latent_mean), 4, 4)
    both = [after.autoencoder.decode(latents, refined=wanted).sample for wanted in (True, False)]
    assert not torch.allclose(*both, atol=1e-3)
    assert list((tmp_path / "refine" / "previews").glob("*.png"))
    with pytest.raises(StainglassError, match="taught on its decoder"):
        require_sharpening(after, small_recipe(train_autoencoder={"sharpen_steps": 2}))


def test_it_is_the_same_when_it_was_stopped_and_goes_on(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = refined(cohort, run_folder, plan(eyes_folder), tmp_path / "whole")
    parts = stopped_and_gone_on(
        monkeypatch, lambda: refined(cohort, run_folder, plan(eyes_folder), tmp_path / "parts"), steps=4
    )
    for a, b in zip(parts.autoencoder.parameters(), whole.autoencoder.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def objective_of(
    cohort: Cohort, run_folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> tuple[Refine, LatentCrops]:
    """As training makes it, with its examples."""
    kept: list[tuple[Refine, LatentCrops]] = []
    monkeypatch.setattr(
        refine, "train", lambda objective, examples, *rest, **more: kept.append((objective, examples))
    )
    generator = TissuePipeline.from_pretrained(run_folder / "generator")
    eyes = load_eyes(recipe.refine.eyes, "refine")
    refine.train_refiner(cohort, cohort.split(), recipe, generator, eyes, Path("nowhere"))
    return kept[0]


def batch_of(examples: LatentCrops, count: int) -> dict[str, torch.Tensor]:
    some = [examples.example(i) for i in range(count)]
    return {key: torch.stack([torch.from_numpy(one[key]) for one in some]) for key in some[0]}


def test_pixels_are_those_of_the_latents(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, examples = objective_of(cohort, run_folder, plan(eyes_folder, painted=0), monkeypatch)
    batch = batch_of(examples, 8)
    decoded = objective._decoded(batch["z"])
    real = batch["pixels"].movedim(-1, 1) / 127.5 - 1
    error = [(decoded - real.roll(k, 0)).square().mean() for k in range(8)]
    assert int(torch.stack(error).argmin()) == 0
    assert len(objective.painted) == 0


def test_painted_windows_are_looked_at_when_they_are_asked_for(
    cohort: Cohort, run_folder: Path, eyes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weight in (0.0, 2.0):
        objective, examples = objective_of(cohort, run_folder, plan(eyes_folder, painted=weight), monkeypatch)
        torch.manual_seed(0)
        loss, told = objective(batch_of(examples, 2))
        parts = told["score"] + told["distance"] + weight * told.get("painted", torch.zeros(()))
        torch.testing.assert_close(loss.detach(), parts)
        assert ("painted" in told) == (weight > 0)
        loss.backward()
        assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_eyes_must_be_named(eyes_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match=r"refine\.eyes.*--set 'refine\.eyes="):
        load_eyes([], "refine")
    assert isinstance(load_eyes([str(eyes_folder)], "refine")[0], Eyes)


def test_a_foreign_autoencoder_is_refused(run_folder: Path) -> None:
    generator = TissuePipeline.from_pretrained(run_folder / "generator")
    require_refining(generator, "run")
    generator.register_modules(autoencoder=AutoencoderTiny())
    with pytest.raises(StainglassError, match="not ours"):
        require_refining(generator, "run")
