import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

from stainglass.cohort.cohort import Cohort
from stainglass.errors import StainglassError
from stainglass.models.autoencoder import TissueAutoencoder
from stainglass.models.denoiser import make_sd_unet
from stainglass.models.facts import Facts
from stainglass.models.flow import flow_of
from stainglass.models.genecondnet import ConditionTensors, GeneCondNet
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.sampler import SamplerSettings
from stainglass.models.stable_diffusion import export_stable_diffusion, find_checkpoint, scaled_statistics
from tiny_sd import TWO, WIDTH, scheduler_of, tiny_checkpoint, tiny_unet, tiny_vae
from verbs import bad, call

GENES, SPOTS = 30, 3
SETTINGS = {"steps": 10, "interval": (0.0, 1.0), "solver": "euler"}


def tiny_pipeline(scheduler: Any, unet: dict[str, Any] | None = None, **changes: Any) -> TissuePipeline:
    torch.manual_seed(3)
    condnet = GeneCondNet(GENES, width=WIDTH, tokens=2).eval()
    torch.nn.init.normal_(condnet.null_pooled)
    pipeline = TissuePipeline(tiny_vae().eval(), condnet, tiny_unet(**(unet or {})).eval(), scheduler)
    mean, std = scaled_statistics(pipeline.autoencoder) or (None, None)
    assert mean is not None
    assert std is not None
    names = tuple(f"G{i}" for i in range(GENES))
    facts = Facts(
        "tiny", 1.0, 64, 100.0, SPOTS, names, names, tuple(map(float, mean)), tuple(map(float, std))
    )
    pipeline.facts = replace(facts, **changes)
    return pipeline


def conditions() -> ConditionTensors:
    """A window with all its spots, and one with a single spot."""
    g = torch.Generator().manual_seed(0)
    present = torch.tensor([[True] * SPOTS, [True] + [False] * (SPOTS - 1)])
    counts = torch.poisson(torch.full((2, SPOTS, GENES), 2.0), generator=g)
    return ConditionTensors(
        counts, torch.randn(2, SPOTS, 2, generator=g), torch.full((2, SPOTS), 55.0), present
    )


def noise() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def diffusers_own(pipeline: TissuePipeline) -> StableDiffusionPipeline:
    """diffusers' pipeline on the same parts, painting from the last timestep down to a clean latent."""
    scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    own = StableDiffusionPipeline(
        vae=pipeline.autoencoder, text_encoder=None, tokenizer=None, unet=pipeline.denoiser, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    own.set_progress_bar_config(disable=True)
    return own


def paint(own: StableDiffusionPipeline, ours: TissuePipeline, guidance: float, output: str) -> Any:
    told = conditions()
    return own(
        prompt_embeds=ours.prompt_embeds(told), negative_prompt_embeds=ours.prompt_embeds(told.null()),
        latents=noise(), num_inference_steps=SETTINGS["steps"], guidance_scale=guidance, output_type=output,
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(
    ("prediction", "zero_snr", "family"),
    [
        ("epsilon", False, {}),
        ("v_prediction", False, TWO),
        ("v_prediction", True, TWO),
        ("sample", False, {}),
    ],
)
def test_parity_with_diffusers_own_pipeline(
    prediction: str, zero_snr: bool, family: dict[str, Any], guidance: float
) -> None:
    ours = tiny_pipeline(scheduler_of(prediction, zero_snr), family)
    settings = SamplerSettings(**SETTINGS, guidance=guidance)
    own = diffusers_own(ours)
    mean, std = ours._stats()
    found = (ours.sample_latents(conditions(), noise(), settings) - mean) / std
    expected = paint(own, ours, guidance, "latent")
    scale = expected.abs().max().item()
    assert (found - expected).abs().max().item() < 1e-4 * scale
    pixels = ours(conditions(), noise(), settings).numpy().astype(int)
    bytes_ = np.stack([np.asarray(image) for image in paint(own, ours, guidance, "pil")]).astype(int)
    assert np.abs(pixels - bytes_).max() <= 1
    assert pixels.std() > 1


def test_a_window_hears_a_fixed_count_of_tokens_null_ones_where_it_has_no_spot() -> None:
    ours = tiny_pipeline(scheduler_of())
    told, nothing = (ours.prompt_embeds(c) for c in (conditions(), conditions().null()))
    assert told.shape == nothing.shape == (2, SPOTS * 2 + 1, WIDTH)
    torch.testing.assert_close(told[1, 2:6], nothing[1, 2:6])
    assert (told[0, 2:6] - nothing[0, 2:6]).abs().min() > 0
    assert tiny_pipeline(scheduler_of(), pooled=False).prompt_embeds(conditions()).shape[1] == SPOTS * 2


def test_the_pooled_vector_is_told_or_not() -> None:
    t, x = torch.tensor([0.5, 0.5]), noise()
    for pooled in (True, False):
        ours = tiny_pipeline(scheduler_of(), pooled=pooled)
        told = ours.embed(conditions())
        with torch.no_grad():
            difference = ours.velocity(x, t, told) - ours.velocity(
                x, t, replace(told, pooled=told.pooled + 1)
            )
        assert bool(difference.abs().max() > 1e-6) is pooled


def test_export_paints_the_same_by_plain_diffusers(tmp_path: Path) -> None:
    ours = tiny_pipeline(scheduler_of("v_prediction", zero_snr=True))
    folder = export_stable_diffusion(ours, tmp_path / "sd")
    own = StableDiffusionPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    assert (folder / "condnet" / "config.json").is_file()
    assert json.loads((folder / "stainglass.json").read_text())["name"] == "tiny"
    assert not list(folder.rglob("*.bin"))
    own.scheduler = diffusers_own(ours).scheduler
    own.set_progress_bar_config(disable=True)
    pixels = ours(conditions(), noise(), SamplerSettings(**SETTINGS, guidance=3.0)).numpy().astype(int)
    images = np.stack([np.asarray(image) for image in paint(own, ours, 3.0, "pil")]).astype(int)
    assert np.abs(pixels - images).max() <= 1


def test_what_is_not_stable_diffusion_is_not_exported(pipeline: TissuePipeline, tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="not of Stable Diffusion's family"):
        export_stable_diffusion(pipeline, tmp_path / "sd")
    ours = tiny_pipeline(scheduler_of(), latent_mean=(0.1,) * 4)
    with pytest.raises(StainglassError, match="normalised by channel"):
        export_stable_diffusion(ours, tmp_path / "sd")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_loaded_as_it_is(tmp_path: Path) -> None:
    checkpoint = find_checkpoint(str(tiny_checkpoint(tmp_path / "sd", scheduler_of("v_prediction", True))))
    assert checkpoint.condition_width() == WIDTH
    for a, b in zip(checkpoint.load_unet().parameters(), tiny_unet().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert checkpoint.load_scheduler().config.rescale_betas_zero_snr
    mean, std = scaled_statistics(checkpoint.load_autoencoder()) or (np.zeros(0), np.zeros(0))
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(std, np.full(4, 1 / 0.18215), rtol=1e-6)
    assert scaled_statistics(TissueAutoencoder()) is None


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"_class_name": "SD3Transformer2DModel"}, "not the UNet of Stable Diffusion"),
        ({"addition_embed_type": "text_time"}, "Stable Diffusion XL"),
        ({"in_channels": 9}, "inpainting"),
        ({"num_class_embeds": 1000}, "class labels"),
        ({"cross_attention_dim": [16, 32]}, "several widths"),
    ],
)
def test_another_kind_of_checkpoint_is_said(changed: dict[str, Any], finding: str, tmp_path: Path) -> None:
    path = tmp_path / "unet" / "config.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps(
            {**dict(tiny_unet().config), **changed}
            | {"_class_name": changed.get("_class_name", "UNet2DConditionModel")}
        )
    )
    with pytest.raises(StainglassError, match=finding):
        find_checkpoint(str(tmp_path)).unet_config()


def test_missing_and_damaged_checkpoints_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StainglassError, match=r"no unet/config\.json"):
        find_checkpoint(str(tmp_path)).condition_width()
    with pytest.raises(StainglassError, match="no such folder"):
        find_checkpoint("/nowhere/at/all")
    folder = tiny_checkpoint(tmp_path / "sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(StainglassError, match="cannot be loaded"):
        find_checkpoint(str(folder)).load_unet()
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(StainglassError, match="not a scheduler"):
        find_checkpoint(str(folder)).load_scheduler()

    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(StainglassError, match=r"cannot be fetched \(no route to host\)"):
        find_checkpoint("someone/sd")


def test_from_a_hub_only_what_is_needed_is_fetched_and_the_commit_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def download(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(tiny_checkpoint(tmp_path / "0123abcd"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    checkpoint = find_checkpoint("someone/sd", "v1")
    assert checkpoint.name == "someone/sd@0123abcd"
    assert (asked["repository"], asked["revision"]) == ("someone/sd", "v1")
    assert not [
        pattern for pattern in asked["allow_patterns"] if "text_encoder" in pattern or ".bin" in pattern
    ]


def test_a_fresh_unet_has_the_familys_blocks_and_hears_tokens_alone() -> None:
    unet = make_sd_unet((32, 64, 64), 1, 32, 4, 8, WIDTH)
    assert unet.config.down_block_types == ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
    assert unet.config.class_embed_type is None
    assert unet.config.attention_head_dim == (1, 2, 2)


def test_the_export_verb(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_pipeline(scheduler_of()).save_pretrained(tmp_path / "run" / "generator")
    code, out, err = call(monkeypatch, capsys, "export", tmp_path / "run", "--out", tmp_path / "sd")
    assert code == 0, err
    assert (tmp_path / "sd" / "unet" / "config.json").is_file()
    assert out.strip().endswith("sd")
    line = bad(monkeypatch, capsys, "export", tmp_path / "run", "--out", tmp_path / "sd")
    assert "exists already" in line
    line = bad(monkeypatch, capsys, "export", run_folder, "--out", tmp_path / "other")
    assert "not of Stable Diffusion's family" in line


@pytest.mark.parametrize(
    "kind", [PNDMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler]
)
def test_a_checkpoints_flow_is_that_of_its_betas_whatever_sampler_it_ships_with(kind: Any) -> None:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    expected = flow_of(DDIMScheduler(prediction_type="v_prediction", **betas))
    found = flow_of(kind(prediction_type="v_prediction", **betas))
    assert found == expected
    assert 0.9 < found.top < 1


def test_the_guides_way_to_plain_diffusers_runs_as_it_is_written(cohort: Cohort, tmp_path: Path) -> None:
    """From an AnnData to pictures by StableDiffusionPipeline, word for word but for paths and steps."""
    page = (Path(__file__).parents[2] / "docs" / "stable_diffusion.md").read_text(encoding="utf-8")
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "StableDiffusionPipeline" in b]
    adata = next(iter(cohort.sections.values())).used_spots
    genes = tuple(adata.var_names[:GENES])
    ours = tiny_pipeline(scheduler_of("v_prediction", True), gene_ids=genes, gene_symbols=genes)
    ours.save_pretrained(tmp_path / "generator")
    export_stable_diffusion(ours, tmp_path / "sd")
    for written, here in (
        ("runs/her2st_sd/generator", str(tmp_path / "generator")),
        ("her2st_sd_diffusers", str(tmp_path / "sd")),
        ("num_inference_steps=20", "num_inference_steps=2"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, here)
    names: dict[str, Any] = {"adata": adata}
    exec(code, names)
    assert len(names["pictures"]) == 4
    assert all(picture.size == (64, 64) for picture in names["pictures"])
