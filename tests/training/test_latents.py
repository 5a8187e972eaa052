import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from small_recipe import small_recipe
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.stain_variants import stain_variants
from stainglass.cohort.windows import Window
from stainglass.config import DenoiserLoop, GeneEncoder
from stainglass.errors import StainglassError
from stainglass.genes.normalise import log_normalised
from stainglass.models.autoencoder import TissueAutoencoder, encode_pixels, load_autoencoder, pixels_to_input
from stainglass.models.flow import RECTIFIED
from stainglass.models.pipeline import TissuePipeline
from stainglass.models.turns import TURNS, turn_plane
from stainglass.training import encode
from stainglass.training.autoencoder import train_autoencoder
from stainglass.training.corrupt import FARTHEST
from stainglass.training.denoise import LatentCrops, LatentSpace
from stainglass.training.denoiser import refuse_compiling
from stainglass.training.encode import _inverse, encode_sections, latent_space, raster_name, turns_needed
from stainglass.training.fit import latent_statistics, variable_genes
from stainglass.training.stages import train_generator


@pytest.fixture(scope="module")
def autoencoder(run_folder: Path) -> TissueAutoencoder:
    return load_autoencoder(run_folder / "autoencoder" / "model")


def test_a_window_of_the_raster_is_the_encoding_of_its_surroundings(
    cohort: Cohort, autoencoder: TissueAutoencoder
) -> None:
    name = cohort.split().train[0]
    section = cohort.sections[name]
    window = cohort.patches([name], 64)[7]
    around = Window(name, window.top_px - 64, window.left_px - 64, 192)
    pixels = pixels_to_input(torch.from_numpy(section.pixels(around)[None]))
    expected = encode_pixels(autoencoder, pixels)[0, :, 8:16, 8:16].detach().numpy()
    np.testing.assert_allclose(section.latents(raster_name(autoencoder), window), expected, atol=2e-2)


def test_what_is_encoded_is_not_encoded_again(cohort: Cohort, autoencoder: TissueAutoencoder) -> None:
    name = cohort.split().train[0]
    path = cohort.sections[name].path / "latent" / raster_name(autoencoder) / "zarr.json"
    before = path.stat().st_mtime_ns
    encode_sections(cohort, [name], autoencoder, [0])
    assert path.stat().st_mtime_ns == before


def test_another_decoder_finds_the_latents_that_are_there_and_another_encoder_does_not(
    autoencoder: TissueAutoencoder,
) -> None:
    before = raster_name(autoencoder)
    for part, same in (("decoder", True), ("encoder", False)):
        other = copy.deepcopy(autoencoder)
        with torch.no_grad():
            next(getattr(other, part).parameters()).add_(1)
        assert (raster_name(other) == before) is same


@pytest.mark.parametrize("turn", TURNS)
def test_an_inverse_undoes_its_turn(turn: int) -> None:
    x = torch.arange(12).reshape(3, 4)
    torch.testing.assert_close(turn_plane(turn_plane(x, turn), _inverse(turn)), x)


def test_a_foreign_autoencoder_gets_one_raster_a_turn(cohort: Cohort) -> None:
    torch.manual_seed(0)
    foreign = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).eval()
    assert list(turns_needed(foreign)) == list(TURNS)
    name = cohort.split().train[0]
    section = cohort.sections[name]
    encode_sections(cohort, [name], foreign, [6])
    # Rasters lie on one grid: a window of raster 6, turned, is the encoding of the turned window.
    window = cohort.patches([name], 64)[7]
    around = Window(name, window.top_px - 160, window.left_px - 160, 64 + 320)
    turned = turn_plane(pixels_to_input(torch.from_numpy(section.pixels(around)[None])), 6)
    with torch.no_grad():
        expected = encode_pixels(foreign, turned)[0, :, 20:28, 20:28].numpy()
    found = turn_plane(
        torch.from_numpy(section.latents(raster_name(foreign, 6), window).astype(np.float32)), 6
    ).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_genes_are_chosen_on_the_training_sections_alone(cohort: Cohort) -> None:
    train = cohort.split().train
    axis = variable_genes(cohort, train, 40)
    assert len(axis) == 40
    blocks = np.concatenate([cohort.sections[s].counts_on(cohort.axis)[0] for s in train])
    variance = log_normalised(blocks).var(0)
    cut = np.sort(variance)[-40]
    assert all(variance[cohort.axis.position[gene]] >= cut - 1e-6 for gene in axis.ids)


def test_statistics_do_not_mind_turns(cohort: Cohort, autoencoder: TissueAutoencoder) -> None:
    assert autoencoder.frequencies is not None
    mean, std = latent_statistics(
        cohort, cohort.split().train, raster_name(autoencoder), 64, autoencoder.frequencies
    )
    for k, (_, u, v) in enumerate(autoencoder.frequencies):
        if u % 2 or v % 2:
            assert abs(mean[k]) < 1e-5
        twin = next(
            i for i, f in enumerate(autoencoder.frequencies) if f == (autoencoder.frequencies[k][0], v, u)
        )
        assert std[k] == pytest.approx(std[twin], rel=1e-5)


def test_examples_are_functions_of_their_position(cohort: Cohort, autoencoder: TissueAutoencoder) -> None:
    train = cohort.split().train
    name = raster_name(autoencoder)
    mean, std = latent_statistics(cohort, train, name, 64, autoencoder.frequencies)
    axis = variable_genes(cohort, train, 40)
    space = LatentSpace(autoencoder, (name,), mean, std)

    def crops() -> LatentCrops:
        return LatentCrops(cohort, train, axis, space, GeneEncoder(genes=40), DenoiserLoop(null_share=0.5),
                           size_px=64, reach_um=115.0, max_spots=4, flow=RECTIFIED)  # fmt: skip

    one, other = crops(), crops()
    for _ in range(3):
        other.example(0)
    for position in (0, 17, 17, 3):
        a, b = one.example(position), other.example(position)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    drawn = [one.example(i) for i in range(60)]
    null = np.mean([not d["present"].any() for d in drawn])
    assert 0.25 < null < 0.75
    z = np.stack([d["z"] for d in drawn])
    assert 0.5 < z.std() < 1.6


def test_expression_is_moved_to_sections_whose_expression_is_told(
    cohort: Cohort, autoencoder: TissueAutoencoder
) -> None:
    sections = sorted(cohort.sections)[:3]
    name, axis = raster_name(autoencoder), variable_genes(cohort, sections, 40)
    encode_sections(cohort, sections, autoencoder, [0])
    space = LatentSpace(
        autoencoder, (name,), *latent_statistics(cohort, sections, name, 64, autoencoder.frequencies)
    )

    def crops(share: float, **loop: object) -> LatentCrops:
        genes = GeneEncoder(genes=40, section_shift=share, thinning=0.0, gene_dropout=0.0, spot_dropout=0.0)
        asked = DenoiserLoop(turns=False, null_share=0.0, **loop)  # type: ignore[arg-type]
        return LatentCrops(cohort, sections, axis, space, genes, asked,
                           size_px=64, reach_um=115.0, max_spots=4, flow=RECTIFIED)  # fmt: skip

    def fold(plain: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> np.ndarray:
        """Logarithm, gene by gene."""
        return np.log(found["counts"].sum(0).clip(1e-9) / plain["counts"].sum(0).clip(1e-9))

    plain, all_moved = crops(0.0), crops(1.0)

    def home(row: np.ndarray) -> str:
        return next(key for key, spots in plain.spots.items() if (spots.counts == row).all(1).any())

    # Every move is from the window's own section's mean towards another's.
    steps = []
    for k in range(30):
        one, other = plain.example(k), all_moved.example(k)
        np.testing.assert_array_equal(one["z"], other["z"])
        gone, seen = fold(one, other), one["counts"].sum(0) > 0
        if not seen.any():
            continue
        own = home(next(row for row in one["counts"] if row.any()))
        ways = [
            np.log(plain.spots[own].mean.fold_to(spots.mean))[seen]
            for key, spots in plain.spots.items()
            if key != own
        ]
        far = [float(gone[seen] @ way / (way @ way)) for way in ways]
        errors = [np.abs(gone[seen] - step * way).max() for step, way in zip(far, ways)]
        assert min(errors) < 1e-3
        steps.append(far[int(np.argmin(errors))])
    assert min(steps) > -1e-3
    assert 0.5 * FARTHEST < max(steps) < FARTHEST + 1e-3
    some = crops(0.5)
    changed = np.mean([np.abs(fold(plain.example(k), some.example(k))).max() > 1e-3 for k in range(60)])
    assert 0.25 < changed < 0.75
    # With one section told there is no other to move to, and the untold ones' counts are not looked at.
    alone = {"unpaired": sections[1:], "unpaired_share": 0.5}
    for k in range(20):
        one, other = crops(0.0, **alone).example(k), crops(1.0, **alone).example(k)
        if one["present"].any():
            np.testing.assert_array_equal(one["counts"], other["counts"])


def test_a_stain_variant_is_the_encoding_of_the_restained_section(
    cohort: Cohort, autoencoder: TissueAutoencoder
) -> None:
    train = cohort.split().train
    stain = stain_variants(cohort, sorted(cohort.sections), 1)[0]
    name = train[0]
    encode_sections(cohort, [name], autoencoder, [0], [stain])
    section = cohort.sections[name]
    window = cohort.patches([name], 64)[7]
    around = Window(name, window.top_px - 64, window.left_px - 64, 192)
    pixels = pixels_to_input(torch.from_numpy(stain.of(name, section.pixels(around))[None]))
    expected = encode_pixels(autoencoder, pixels)[0, :, 8:16, 8:16].detach().numpy()
    found = section.latents(raster_name(autoencoder, 0, stain.name), window)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert np.abs(found - section.latents(raster_name(autoencoder), window)).max() > 0.1


def test_windows_are_also_cut_from_sections_in_other_stains(
    cohort: Cohort, autoencoder: TissueAutoencoder
) -> None:
    sections = sorted(cohort.sections)
    stains = stain_variants(cohort, sections, 1)
    encode_sections(cohort, sections, autoencoder, [0], stains)
    plain, stained = (raster_name(autoencoder, 0, name) for name in ("", stains[0].name))
    mean, std = latent_statistics(cohort, sections, plain, 64, autoencoder.frequencies)
    axis = variable_genes(cohort, sections, 40)
    space = LatentSpace(autoencoder, (plain,), mean, std, ((stained,),), stains)
    loop = DenoiserLoop(turns=False, anywhere_share=0.0, representation=0.1)
    crops = LatentCrops(cohort, sections, axis, space, GeneEncoder(genes=40), loop,
                        size_px=64, reach_um=115.0, max_spots=4, flow=RECTIFIED)  # fmt: skip
    windows = cohort.patches(sections, 64)

    def cut(raster: str) -> np.ndarray:
        return np.stack([cohort.sections[w.section].latents(raster, w).astype(np.float32) for w in windows])

    whole = {raster: cut(raster).reshape(len(windows), -1) for raster in (plain, stained)}
    near = {plain: 0, stained: 0}
    pixels = {
        plain: cohort.pixels(windows),
        stained: np.stack([stains[0].of(w.section, cohort.pixels([w])[0]) for w in windows]),
    }
    for k in range(40):
        example = crops.example(k)
        z = (example["z"] * std[:, None, None] + mean[:, None, None]).ravel()
        gap = {raster: np.abs(found - z).max(1).min() for raster, found in whole.items()}
        assert min(gap.values()) < 1e-2
        which = min(gap, key=gap.__getitem__)
        near[which] += 1
        # The picture that is told or represented beside is in the stain of the latents.
        at = int(np.abs(whole[which] - z).max(1).argmin())
        np.testing.assert_array_equal(example["pixels"], pixels[which][at])
    assert min(near.values()) > 10


def test_another_run_that_encodes_the_same_section_spoils_nothing(
    cohort: Cohort, autoencoder: TissueAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Cohort.open(shutil.copytree(cohort.path, tmp_path / "cohort"))
    (name, *_), tile = sorted(copied.sections), encode._encode_tile
    raster, others = raster_name(autoencoder, 0), []
    shutil.rmtree(copied.sections[name].path / "latent", ignore_errors=True)

    def interrupted(*args: object) -> object:
        if not others:  # in the midst of this one the other begins and ends
            others.append(None)
            encode_sections(Cohort.open(copied.path), [name], autoencoder, [0])
        return tile(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "_encode_tile", interrupted)
    encode_sections(copied, [name], autoencoder, [0])
    monkeypatch.undo()
    found = np.asarray(Cohort.open(copied.path).sections[name].root[f"latent/{raster}"][:])
    encode_sections(cohort, [name], autoencoder, [0])
    np.testing.assert_array_equal(found, np.asarray(cohort.sections[name].root[f"latent/{raster}"][:]))
    assert not list((copied.sections[name].path / "latent").glob(".*"))


def test_stains_of_the_training_fold_travel_with_the_generator(cohort: Cohort, tmp_path: Path) -> None:
    training = cohort.split().train
    recipe = small_recipe(
        train_denoiser={"steps": 1, "batch": 1, "stain_variants": 1, "stain_method": "reinhard"}
    )
    train_generator(cohort, cohort.split(), recipe, tmp_path)
    facts = TissuePipeline.from_pretrained(tmp_path / "generator").facts
    assert facts is not None
    (told,) = facts.stains
    (stain,) = stain_variants(cohort, training, 1, "reinhard", recipe.train_denoiser.seed)
    assert told["method"] == "reinhard"
    assert told["name"] == stain.name
    assert set(told["own"]) == set(told["drawn"]) == set(training)
    for name in training:
        np.testing.assert_allclose(told["own"][name], stain.own[name].numbers(), atol=1e-6)
        np.testing.assert_allclose(told["drawn"][name], stain.drawn[name].numbers(), atol=1e-6)


def test_trainings_that_differ_by_seed_alone_can_share_their_stains(cohort: Cohort, tmp_path: Path) -> None:
    asked = {"steps": 1, "batch": 1, "stain_variants": 1, "stain_method": "reinhard", "seed": 8}
    names = []
    for k, stain_seed in enumerate((None, 8, 3)):
        recipe = small_recipe(train_denoiser={**asked, "stain_seed": stain_seed})
        autoencoder = train_autoencoder(cohort, cohort.split(), recipe, tmp_path / str(k))
        names.append(latent_space(cohort, cohort.split(), recipe, autoencoder).stains[0].name)
    assert names[0] == names[1] != names[2]


def test_compiling_is_refused_where_gradients_would_be_wrong(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(train_denoiser={"compile": True, "precision": "bf16"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StainglassError, match="wrong gradients in bf16 on a CPU"):
        train_generator(cohort, cohort.split(), recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for fine in ({"compile": True, "precision": "no"}, {"compile": False, "precision": "bf16"}):
        refuse_compiling(DenoiserLoop(**fine))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's tracer warns of diffusers
def test_a_compiled_denoiser_is_trained_and_saved_as_any_other(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def traced(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        shapes.append(tuple(inputs[0].shape))
        return graph.forward  # no code is generated: that takes minutes

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compile_module(self, backend=traced, **how)
    )
    made = []
    for compiled in (False, True):
        recipe = small_recipe(train_denoiser={"steps": 2, "batch": 3, "compile": compiled, "precision": "no"})
        pipeline = train_generator(cohort, cohort.split(), recipe, tmp_path / str(compiled))
        made.append(pipeline.denoiser.state_dict())
    assert shapes
    assert made[0].keys() == made[1].keys()
    for name, weight in made[0].items():
        torch.testing.assert_close(weight, made[1][name], atol=1e-4, rtol=1e-2)
