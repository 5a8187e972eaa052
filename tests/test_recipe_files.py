from pathlib import Path

import pytest
import yaml

from stainglass.errors import StainglassError
from stainglass.recipe_files import load_recipe, shipped_recipes, variants_of, write_recipe


def test_every_shipped_recipe_and_preset_is_valid() -> None:
    recipes = shipped_recipes()
    assert {"demo", "her2st"} <= set(recipes)
    for name, path in recipes.items():
        presets = yaml.safe_load(path.read_text()).get("presets", {})
        for preset in [None, *presets]:
            recipe = load_recipe(name, preset)
            assert recipe.name == name
            if recipe.ablation.variants:
                assert len({variant.model_dump_json() for variant in variants_of(recipe).values()}) > 1


def test_sets_override_presets_and_presets_the_recipe() -> None:
    brief = load_recipe("her2st", "brief")
    assert brief.denoiser.widths == (48, 96, 96)
    assert load_recipe("her2st", "brief", ("train_denoiser.steps=7",)).train_denoiser.steps == 7
    assert (
        load_recipe("her2st", "brief", ("train_denoiser.steps=7",)).train_denoiser.batch
        == brief.train_denoiser.batch
    )


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = load_recipe("her2st", "full")
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("train_denoiser.stepz=7", "unknown setting 'train_denoiser.stepz'"),
        ("train_denoiser.steps=-1", "train_denoiser.steps"),
        ("denoiser.kind=gan", "denoiser.kind"),
        ("nonsense", "not of the form"),
        ("a.b=[", "not YAML"),
    ],
)
def test_a_wrong_setting_is_named(sets: str, words: str) -> None:
    with pytest.raises(StainglassError, match=words):
        load_recipe("demo", sets=(sets,))


def test_an_unknown_recipe_or_preset_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(StainglassError, match="demo"):
        load_recipe("nothing")
    with pytest.raises(StainglassError, match="brief, full"):
        load_recipe("her2st", "medium")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(StainglassError, match="not a readable recipe"):
        load_recipe(tmp_path / "bad.yaml")


def test_a_recipe_that_tells_the_mean_cannot_ask_for_candidates() -> None:
    with pytest.raises(StainglassError, match="none shows it best"):
        load_recipe("demo", sets=["genes.told=bulk", "genes.section_shift=0", "sampling.candidates=2"])


def test_given_sections_are_not_called_simulated() -> None:
    demo = load_recipe("demo")
    given = demo.on("samples.csv")
    assert given.simulate is None
    assert "Simulated" not in f"{given.title} {given.data}"
    assert "samples.csv" in given.data
    assert given.on("samples.csv") == given
    told = load_recipe("demo", sets=("data=Melanomas of our clinic",))
    assert told.on("samples.csv") == told


def test_a_mapping_is_laid_over_what_is_there_and_an_empty_one_empties_it() -> None:
    before = load_recipe("crc_ablation").ablation.variants
    added = load_recipe(
        "crc_ablation", sets=("ablation.variants={x: {genes: {tokens: 1}}}",)
    ).ablation.variants
    assert set(added) == {*before, "x"}
    alone = load_recipe(
        "crc_ablation", sets=("ablation.variants={}", "ablation.variants.x={genes: {tokens: 1}}")
    )
    assert set(alone.ablation.variants) == {"x"}


def test_a_path_that_is_not_there_is_no_shipped_recipe(tmp_path: Path) -> None:
    assert load_recipe("recipes/demo.yaml").name == "demo"
    with pytest.raises(StainglassError, match="no such recipe"):
        load_recipe(tmp_path / "demo.yaml")


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("evaluation.primary=recovry", "no metric is called 'recovry'"),
        ("evaluation.noise_seeds=[]", "noise_seeds"),
        ("split.fold=3", "one of several"),
    ],
)
def test_what_would_only_fail_after_training(item: str, told: str) -> None:
    with pytest.raises(StainglassError, match=told):
        load_recipe("demo", sets=(item,))


def test_a_written_recipe_makes_the_run_again(tmp_path: Path) -> None:
    write_recipe(load_recipe("breast", "brief"), tmp_path / "recipe.yaml")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == load_recipe("breast", "brief")
    assert again.prepare.mpp is None  # asked for by name, the cohort's own 0.689 would be refused
