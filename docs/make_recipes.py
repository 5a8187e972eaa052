"""Write docs/recipes.md from the types and docstrings of ``stainglass.config``.

python docs/make_recipes.py            write it
python docs/make_recipes.py --check    fail when it is not what would be written
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stainglass.config import Recipe
from stainglass.recipe_files import load_recipe, shipped_recipes

PAGE = Path(__file__).parent / "recipes.md"

PLAIN = {
    "Recipe.name": "Of the run; stamped on every picture its generator paints.",
    "Recipe.title": "For people: the report's heading, the card's *trained on*.",
    "Recipe.seed": "Of the simulation, the random split, and every draw the evaluation makes.",
    "Simulate.tissue": "Which tissue.",
    "Simulate.patients": "How many; one section each.",
    "Simulate.size_um": "Side of a section, µm.",
    "Simulate.mpp": "µm/px of the simulated slides.",
    "Split.name": "Name of the file under the cohort's `splits/`; folds name their own (`fold-0-of-5`, `left-out-0`).",
    "Split.validation": "Section ids.",
    "Split.test": "Section ids.",
    "Windows.size_px": "Side of a window, px of the cohort's mpp.",
    "Windows.max_spots": "At most this many spots condition a window, nearest first.",
    "Autoencoder.latent_channels": "Channels of the latent: 1, 3, 5, 6, 8, 10, 11, 13, 15 or 16.",
    "Autoencoder.widths": "Channels at 1/4 and at 1/8 of the resolution.",
    "Autoencoder.blocks": "Residual blocks at 1/4 and at 1/8, in encoder and decoder each.",
    "GeneEncoder.top_k": "Genes a spot that `set` looks at.",
    "GeneEncoder.width": "Width of tokens and pooled vector.",
    "GeneEncoder.gene_dropout": "Share of genes set to zero, drawn anew for every window in training.",
    "GeneEncoder.spot_dropout": "Share of spots left out in training; never a window's last one.",
    "Clip.revision": "Of a hub id; pin it.",
    "Clip.widths": "Channels of each stage of our ConvNet.",
    "Clip.image_px": "Side our ConvNet scales a window to.",
    "Clip.dim": "Dimensions of the common space.",
    "Clip.dropout": "Before the projections; sections have few spots.",
    "Analysis.steps": "Which, in this order; see docs/analysis.md.",
    "Denoiser.kind": "A convolutional UNet, a small DiT, or Stable Diffusion; see docs/stable_diffusion.md.",
    "Denoiser.widths": "Channels of every level of the UNet; the DiT takes the first as its width.",
    "Loop.steps": "Optimiser steps.",
    "Loop.batch": "Windows a batch, of each process.",
    "Loop.accumulate": "Batches a step.",
    "Loop.learning_rate": "Highest; reached after the warm-up, then half a cosine down to a hundredth.",
    "Loop.warmup": "Steps of linear warm-up.",
    "Loop.weight_decay": "Of AdamW.",
    "Loop.clip": "Largest norm of a gradient.",
    "Loop.checkpoint_every": "Steps between checkpoints.",
    "Loop.keep": "Checkpoints kept.",
    "Loop.preview_every": "Steps between preview pictures.",
    "Loop.log_every": "Steps between lines of `metrics.jsonl`.",
    "Loop.seed": "Of the weights, the order of windows, noise and noise levels.",
    "AutoencoderLoop.crop_px": "Side of the crops it is trained on, px.",
    "Sampling.steps": "Steps of the solver.",
    "Sampling.guidance": "Weight of the condition over none; 1 is no guidance (Ho & Salimans 2022).",
    "Sampling.batch": "Windows at once; it does not change the pictures.",
    "Sampling.seed": "Of the noise field.",
    "Evaluation.noise_seeds": "Each is painted under every condition.",
    "Evaluation.primary": "The one metric declared before the run; everything else is secondary.",
    "Evaluation.recovery_genes": "How many of the training tissue's most variable genes are looked for in the pictures.",
    "Evaluation.derange_um": "Shuffled conditions come from at least this far away, or from another section.",
    "Evaluation.bootstrap": "Resamples behind an interval.",
    "Evaluation.lpips_weights": "File with LPIPS weights; without it these rows are undefined, and say so.",
    "Evaluation.notes": "Sentences a reader of the card must know.",
}
"""What keys without a docstring mean; one that gains a docstring must leave this table."""

HEAD = """# Recipes

<!-- Written by docs/make_recipes.py from stainglass.config; do not edit. `python docs/make_recipes.py` -->

A recipe is one YAML file: everything a run depends on besides the data. Every key has a default except
`name`; an unknown key is refused by name. The resolved tree is written to `recipe.yaml` in the run's folder.

- `stainglass run demo --out runs/demo`: a recipe that comes with stainglass, by name or by path.
- `--preset NAME`: lays one of the recipe's `presets` over it.
- `--set a.b=c`: overrides one key; the value is YAML, e.g. `--set train_denoiser.steps=500`
  `--set split.test='[B4]'`. May be given several times; later wins, and wins over the preset.
  A mapping is laid over the one that is there; `{{}}` empties it (`--set ablation.variants={{}}`).

`--dry-run` tells the time, disk and memory that a step would take here.

{shipped}

Defaults below are those of the code; the recipes that come with stainglass change many of them.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD.format(shipped=shipped())]
    plain = {name: f for name, f in Recipe.model_fields.items() if room_of(f) is None}
    parts.append("## At the top\n\n" + table(Recipe, "", plain))
    for name, about in Recipe.model_fields.items():
        room = room_of(about)
        if room is not None:
            absent = "\n\nAbsent by default." if about.default is None else ""
            heading = f"## `{name}`\n\n{inspect.getdoc(room)}{absent}\n\n"
            parts.append(heading + table(room, f"{name}.", room.model_fields))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def shipped() -> str:
    """A table of the recipes that come with stainglass."""
    rows = ["| recipe | what for | presets |", "|---|---|---|"]
    for name, path in shipped_recipes().items():
        presets = ", ".join(f"`{one}`" for one in presets_of(path)) or "–"
        rows.append(f"| [`{name}`](../recipes/{path.name}) | {purpose_of(path)} | {presets} |")
    return "\n".join(rows)


def purpose_of(path: Path) -> str:
    """What the comment that a recipe begins with says before its first command."""
    lines = path.read_text(encoding="utf-8").splitlines()
    about = takewhile(lambda line: line.startswith("# ") and not line.startswith("# stainglass"), lines)
    return " ".join(line[2:].strip() for line in about)


def presets_of(path: Path) -> list[str]:
    """Names of a recipe's presets, each of which must load."""
    import yaml

    names = list(yaml.safe_load(path.read_text(encoding="utf-8")).get("presets") or {})
    for name in names:
        load_recipe(path, name)
    return names


def room_of(about: FieldInfo) -> type[BaseModel] | None:
    """The model behind a key that is a subtree, else None."""
    for kind in (about.annotation, *get_args(about.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def table(room: type[BaseModel], prefix: str, keys: dict[str, FieldInfo]) -> str:
    """One row a key."""
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for name, about in keys.items():
        cells = (f"`{prefix}{name}`", default_of(about), values_of(about), meaning_of(room, name))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default_of(about: FieldInfo) -> str:
    """The default as YAML would have it."""
    if about.is_required():
        return "needed"
    return "none" if about.default is None else f"`{json.dumps(about.default, ensure_ascii=False)}`"


def values_of(about: FieldInfo) -> str:
    """Type and bounds."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    bounds = [
        f"{sign} {getattr(rule, key):g}"
        for rule in about.metadata
        for key, sign in signs.items()
        if hasattr(rule, key)
    ]
    return ", ".join([type_name(about.annotation), *bounds])


def type_name(kind: Any) -> str:
    """A type in words."""
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "none"}
    if kind in words:
        return words[kind]
    inner = get_args(kind)
    if kind is Any:
        return "anything"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "{" + ", ".join(kind.model_fields) + "}"
    if get_origin(kind) is dict:
        return f"{type_name(inner[0])} → {type_name(inner[1])}"
    if get_origin(kind) is Annotated:
        return type_name(inner[0])
    if get_origin(kind) is Literal:
        return " · ".join(f"`{value}`" for value in inner)
    if get_origin(kind) is tuple and inner[-1] is Ellipsis:
        return f"list of {type_name(inner[0])}"
    if get_origin(kind) is tuple:
        return f"{len(inner)} × {type_name(inner[0])}"
    return " or ".join(type_name(one) for one in inner)


def meaning_of(room: type[BaseModel], name: str) -> str:
    """The docstring below the key in the class that declares it, or the line here."""
    for owner in room.__mro__:
        if name not in inspect.get_annotations(owner):
            continue
        key, found = f"{owner.__name__}.{name}", docstrings(owner).get(name)
        if found and key in PLAIN:
            raise SystemExit(f"{key} has a docstring now: take it out of PLAIN")
        if not found and key not in PLAIN:
            raise SystemExit(f"{key} has neither a docstring nor a line in PLAIN")
        return " ".join((found or PLAIN[key]).replace("``", "`").split())
    raise SystemExit(f"no class declares {name}")


def docstrings(owner: type) -> dict[str, str]:
    """Key → string literal right below it in the class body."""
    tree = ast.parse(inspect.getsource(sys.modules[owner.__module__]))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner.__name__
    )
    found = {}
    for one, after in pairwise(body):
        if (
            isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            found[one.target.id] = str(ast.literal_eval(after.value))
    return found


def main() -> int:
    """Write the page, or check it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{PAGE.name} is not up to date: run python docs/make_recipes.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
