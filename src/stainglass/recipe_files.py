"""Recipes as YAML: found by path or name, a preset and overrides laid over them, the resolved tree written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stainglass.config import Recipe
from stainglass.errors import StainglassError
from stainglass.files import atomic_path


def load_recipe(name: str | Path, preset: str | None = None, sets: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe (a YAML file, or the name of one that comes with stainglass), apply a preset and overrides.

    Parameters
    ----------
    name
        Path, or e.g. ``her2st`` for the recipe that ships with the package.
    preset
        One of the recipe's ``presets``.
    sets
        Overrides as ``a.b=c``; the value is YAML.

    Raises
    ------
    StainglassError
        When the file is missing or not YAML, the preset is not there, or a key or value is not of the tree.
    """
    path = find_recipe(name)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StainglassError(path, f"not a readable recipe ({error})", "Mend the YAML") from None
    if not isinstance(tree, dict):
        raise StainglassError(path, "not a recipe (no mapping at the top)", "Start from one in recipes/")
    presets = tree.pop("presets", {}) or {}
    if preset is not None:
        if preset not in presets:
            known = ", ".join(presets) or "none"
            raise StainglassError(path, f"no preset {preset!r}", f"Choose one of: {known}")
        tree = _merged(tree, presets[preset])
    for item in sets:
        tree = _overridden(tree, item)
    return recipe_from_tree(tree, path)


def variants_of(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe's variants by name, each a recipe of its own.

    Raises
    ------
    StainglassError
        When it has none, or one sets what is no setting.
    """
    where = f"recipe {recipe.name}"
    if not recipe.ablation.variants:
        raise StainglassError(where, "has no variants to compare", "Name some under ablation.variants")
    seeds = list(
        recipe.ablation.training_seeds
    )  # a variant may ask for more under its own ablation.training_seeds
    tree = recipe.model_dump(mode="json") | {"ablation": {"training_seeds": seeds}}
    found = {}
    for name, over in recipe.ablation.variants.items():
        if not name or Path(name).name != name:
            raise StainglassError(where, f"a variant cannot be called {name!r}", "Give a plain name")
        found[name] = recipe_from_tree(_merged(tree, over), Path(f"{where}, variant {name}"))
    return found


def recipe_from_tree(tree: dict[str, Any], where: Path) -> Recipe:
    """Check a tree of plain values against the types; the first finding is told with its place."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "recipe"
        if first["type"] == "extra_forbidden":
            raise StainglassError(
                where, f"unknown setting {place!r}", "Check the spelling against docs/recipes.md"
            ) from None
        raise StainglassError(
            where, f"{place}: {first['msg']} (got {first['input']!r})", "Correct this value"
        ) from None


def recipe_from_sets(name: str, sets: tuple[str, ...]) -> Recipe:
    """Defaults with overrides, for a verb that was given no recipe."""
    tree: Any = {"name": name}
    for item in sets:
        tree = _overridden(tree, item)
    return recipe_from_tree(tree, Path("--set"))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved tree as YAML."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
        )


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with stainglass, by name."""
    here = Path(__file__).parent
    for folder in (here / "recipes", here.parents[1] / "recipes"):  # a wheel; an editable checkout
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find_recipe(name: str | Path) -> Path:
    """A path that exists, or the shipped recipe of that name (``recipes/her2st.yaml`` works anywhere)."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.parent in (Path(), Path("recipes")):
        return shipped[path.stem]
    raise StainglassError(path, "no such recipe", f"Give a YAML file, or one of: {', '.join(shipped)}")


def _overridden(base: dict[str, Any], item: str) -> Any:
    """A tree with ``a.b=c`` laid over it: a mapping over the one that is there, which an empty one empties."""
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise StainglassError(
            f"--set {item}", "not of the form a.b=c", "For instance --set train_denoiser.steps=500"
        )
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise StainglassError(f"--set {item}", "the value is not YAML", "Quote it") from None
    return _laid(base, key.strip().split("."), tree)


def _laid(base: Any, keys: list[str], value: Any) -> Any:
    if not keys:
        return value if value == {} else _merged(base, value)
    inside = base if isinstance(base, dict) else {}
    return {**inside, keys[0]: _laid(inside.get(keys[0]), keys[1:], value)}


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    return over
