import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.genecondnet import ConditionTensors
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.training.checkpoint import hash_of_weights
from stainglass.training.stages import train_generator


def conditions(pipeline: TissuePipeline, present: bool = True) -> ConditionTensors:
    assert pipeline.facts is not None
    g, s = len(pipeline.facts.gene_ids), pipeline.facts.max_spots
    return ConditionTensors(
        torch.poisson(torch.full((2, s, g), 2.0), generator=torch.Generator().manual_seed(0)),
        torch.zeros(2, s, 2), torch.full((2, s), 55.0), torch.full((2, s), present),
    )  # fmt: skip


def noise(pipeline: TissuePipeline) -> torch.Tensor:
    assert pipeline.facts is not None
    side = pipeline.facts.window_px // 8
    return torch.randn(
        2, len(pipeline.facts.latent_mean), side, side, generator=torch.Generator().manual_seed(1)
    )


def test_there_and_back_is_the_same_generator(pipeline: TissuePipeline, tmp_path: Path) -> None:
    settings = SamplerSettings(steps=3)
    pipeline.save_pretrained(tmp_path / "copy")
    again = TissuePipeline.from_pretrained(tmp_path / "copy")
    assert again.facts == pipeline.facts
    one, other = (p(conditions(p), noise(p), settings).numpy() for p in (pipeline, again))
    np.testing.assert_array_equal(one, other)


def test_the_folder_has_safetensors_a_card_and_no_pickle(run_folder: Path) -> None:
    files = {p.name for p in (run_folder / "generator").rglob("*") if p.is_file()}
    assert {
        "model_index.json",
        "stainglass.json",
        "README.md",
        "diffusion_pytorch_model.safetensors",
    } <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    card = (run_folder / "generator" / "README.md").read_text()
    assert "Not for diagnosis" in card
    assert "Simulated." in card


def test_what_is_pushed_to_a_hub_is_what_is_saved(
    pipeline: TissuePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    pushed: dict[str, list[str]] = {}

    class Repository:
        repo_id = "someone/generator"

    def upload(repo_id: str, folder_path: Path, **_: object) -> str:
        pushed[repo_id] = sorted(p.name for p in folder_path.rglob("*") if p.is_file())
        pushed["card"] = [(folder_path / "README.md").read_text()]
        return "commit"

    monkeypatch.setattr(huggingface_hub, "create_repo", lambda *_, **__: Repository())
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    assert pipeline.push_to_hub("someone/generator") == "commit"
    assert {"stainglass.json", "model_index.json", "README.md"} <= set(pushed["someone/generator"])
    assert "Not for diagnosis" in pushed["card"][0]


def test_guidance_of_one_and_an_empty_interval_are_no_guidance(pipeline: TissuePipeline) -> None:
    c, z = conditions(pipeline), noise(pipeline)
    plain = pipeline.sample_latents(c, z, SamplerSettings(steps=3, guidance=1.0))
    never = pipeline.sample_latents(c, z, SamplerSettings(steps=3, guidance=4.0, interval=(2.0, 3.0)))
    some = pipeline.sample_latents(c, z, SamplerSettings(steps=3, guidance=4.0, interval=(0.0, 1.0)))
    torch.testing.assert_close(plain, never)
    assert (plain - some).abs().max() > 1e-5


def test_without_spots_guidance_changes_nothing(pipeline: TissuePipeline) -> None:
    c, z = conditions(pipeline, present=False), noise(pipeline)
    torch.testing.assert_close(
        pipeline.sample_latents(c, z, SamplerSettings(steps=3, guidance=1.0)),
        pipeline.sample_latents(c, z, SamplerSettings(steps=3, guidance=3.0, interval=(0.0, 1.0))),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_no_generator_and_another_format_are_said(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="no generator here"):
        TissuePipeline.from_pretrained(tmp_path / "nothing")
    shutil.copytree(run_folder / "generator", tmp_path / "other")
    path = tmp_path / "other" / "stainglass.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))
    with pytest.raises(StainglassError, match="format 1"):
        TissuePipeline.from_pretrained(tmp_path / "other")


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_paints_what_full_precision_paints(
    precision: torch.dtype, pipeline: TissuePipeline, run_folder: Path
) -> None:
    half = TissuePipeline.from_pretrained(run_folder / "generator", dtype=precision)
    assert {p.dtype for p in half.denoiser.parameters()} == {precision}
    c, z = conditions(pipeline), noise(pipeline)
    settings = SamplerSettings(steps=3, guidance=2.0)
    full, low = (one(c, z, settings).float() for one in (pipeline, half))
    assert (full - low).abs().mean() < 2  # of 255
    assert half.reconstruct(low.to(torch.uint8)).shape == low.shape
    assert len(hash_of_weights(half.denoiser)) == 10


OTHERS = (
    {"kind": "dit", "widths": [32], "layers": 2, "heads_of": 16},
    {"widths": [16, 32], "heads_of": 16, "attention": "everywhere"},
)


@pytest.mark.parametrize("denoiser", OTHERS)
def test_every_denoiser_comes_back_as_it_was_saved(
    denoiser: dict[str, object], run_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    recipe = small_recipe(
        denoiser=denoiser, autoencoder={"folder": str(run_folder / "autoencoder" / "model")}
    )
    made = train_generator(cohort, cohort.split(), recipe, tmp_path)
    again = TissuePipeline.from_pretrained(tmp_path / "generator")
    before, after = made.denoiser.state_dict(), again.denoiser.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert type(again.denoiser) is type(made.denoiser)
