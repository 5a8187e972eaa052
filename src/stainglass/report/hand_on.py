"""A run's generator as others get it: the weights that were judged, with the card and every figure in the model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from stainglass.errors import StainglassError
from stainglass.evaluation.card import Card
from stainglass.files import atomic_path, read_json, write_json
from stainglass.models.facts import FACTS_FILE
from stainglass.models.sampler import SamplerSettings
from stainglass.report.markdown import card_markdown

ORIGIN = "_name_or_path"
"""Where diffusers loaded a part from: a path of the machine it was made on, which is nobody else's business."""

MEASURED = """
## Measured
Each figure beside its controls at the same N: `floor` is real held-out tissue, `shuffled` the spots of another place, `bulk`
the section's mean expression, `retrieval` a real training patch chosen by expression; what they mean is in stainglass's docs.
The weights in this folder are the ones that were judged{how}. {trained_on}.

{figures}
{notes}
"""


def hand_on(run: Path, out: Path) -> Path:
    """Copy ``run/generator`` to a new folder and write its evaluation into it.

    Raises
    ------
    StainglassError
        When the run has no generator or was not evaluated.
    """
    generator, path = run / "generator", run / "evaluation" / "card.json"
    if not (generator / "model_index.json").is_file():
        raise StainglassError(run, "no generator in this run", "Give a run that 'stainglass train' finished")
    if not path.is_file():
        raise StainglassError(run, "was not evaluated", "Run 'stainglass evaluate' first")
    card = Card.read(path)
    with atomic_path(out) as temporary:
        shutil.copytree(generator, temporary, copy_function=shutil.copyfile)
        shutil.copyfile(path, temporary / "card.json")
        if card.sampling:  # it paints as it was judged, whatever it was trained to be painted with
            SamplerSettings.read(card.sampling, str(path))
            facts = read_json(temporary / FACTS_FILE, "generator")
            write_json(temporary / FACTS_FILE, {**facts, "sampling": card.sampling})
        for config in (temporary / "model_index.json", *temporary.glob("*/config.json")):
            told = read_json(config, "configuration")
            told.pop(ORIGIN, None)
            write_json(config, told)
        with (temporary / "README.md").open("a", encoding="utf-8") as readme:
            notes = "\n".join(f"- {note}" for note in card.notes)
            figures = card_markdown(card, whole=True)
            how = ", and it paints as it did then" if card.sampling else ""
            readme.write(MEASURED.format(how=how, trained_on=card.trained_on, figures=figures, notes=notes))
    return out
