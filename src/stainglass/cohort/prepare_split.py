"""The split of a cohort: as the recipe names it, or its fold, or the one that is there, or drawn and written."""

from __future__ import annotations

from pathlib import Path

from stainglass.cohort.blocks import FILE, PARTS, Blocks, buffer_for, divide
from stainglass.cohort.cohort import Cohort
from stainglass.cohort.folds import make_folds, prepare_folds, strata_of
from stainglass.cohort.splits import Split, held_out_of, make_split, write_split
from stainglass.config import FOLDS, Windows
from stainglass.config import Split as SplitSettings
from stainglass.errors import StainglassError
from stainglass.progress import console


def prepare_split(
    cohort: Cohort, settings: SplitSettings, seed: int, windows: Windows | None = None
) -> Split:
    """The split the recipe names, or its fold; else the one that is there, as long as it holds; else one drawn and written.

    A cohort of one patient, none of whose sections is named, is divided into spatial blocks, aloud.

    Parameters
    ----------
    windows
        What the models will see: a buffer of that size keeps the blocks apart. None, before training: no blocks.
    """
    named = bool(settings.train or settings.validation or settings.test)
    if settings.kind is not None and named != (settings.kind == "fixed"):
        raise StainglassError(
            f"split.kind={settings.kind}",
            "sections are named under split" if named else "no section is named under split",
            "Leave split.train, validation and test out"
            if named
            else "Name them under split.train and split.test",
        )
    if settings.kind in FOLDS:
        groups = {name: section.record.groups for name, section in cohort.sections.items()}
        strata = strata_of(cohort.patients, groups, settings, cohort.path)
        folds = make_folds(cohort.patients, strata, settings, seed, cohort.path)
        return prepare_folds(folds, settings, cohort.path / "splits", cohort.patients)
    path = cohort.path / "splits" / f"{settings.name}.json"
    if path.is_file() and not named:
        split = cohort.split(settings.name)
        _refuse_another_kind(split, settings, path)
        if windows is not None:
            _refuse_wider_windows(cohort, windows)
        _tell_kept(split, cohort, settings, path)
        return split
    if windows is None and settings.kind == "spatial-blocks":
        raise StainglassError(
            "split.kind=spatial-blocks", "blocks are cut as far apart as a model's windows need",
            "Train with the same setting: it divides the sections",
        )  # fmt: skip
    alone = not named and len(set(cohort.patients.values())) == 1
    if windows is not None and (settings.kind == "spatial-blocks" or alone):
        split = _split_in_blocks(cohort, settings, windows)
    else:
        split = make_split(cohort.patients, settings, seed, cohort.path)
    write_split(split, cohort.path / "splits")
    return split


def _split_in_blocks(cohort: Cohort, settings: SplitSettings, windows: Windows) -> Split:
    """Divide every section into a training and a held-out block, and say what that can show."""
    centres = {name: section.centres_um_yx() for name, section in cohort.sections.items()}
    buffer_um = buffer_for(centres, windows.size_px * cohort.mpp, windows.reach_um)
    blocks = divide(centres, settings.held_out_share, buffer_um, cohort.path)
    blocks.write(cohort.path)
    cohort.in_blocks(blocks)
    console.print(
        f"  no patient can be held out: each section is divided into blocks with {buffer_um:.0f} µm between; what holds "
        "on the held-out block is no patient generalisation, and the card will say so",
        highlight=False,
        soft_wrap=True,
    )
    train, test = (tuple(s for s in cohort.sections if s.endswith(f".{part}")) for part in PARTS)
    patients = tuple(sorted(set(cohort.patients.values())))
    return Split(settings.name, train, (), test, patients, "spatial-blocks")


def _refuse_another_kind(split: Split, settings: SplitSettings, path: Path) -> None:
    """A split is made once and kept; one of another kind that is asked for must not be passed over."""
    if settings.kind is None or split.kind in (None, settings.kind):
        return
    blocks = f" and {path.parent.parent / FILE}" if split.kind == "spatial-blocks" else ""
    raise StainglassError(
        path,
        f"was made with split.kind={split.kind}, not {settings.kind}",
        f"Delete it{blocks} to make it anew",
    )


def _tell_kept(split: Split, cohort: Cohort, settings: SplitSettings, path: Path) -> None:
    """What a split that is kept does not do."""
    left = set(cohort.sections) - {*split.train, *split.validation, *split.test}
    if left:
        told = f"{', '.join(sorted(left))} in none of its parts; delete {path} to draw it anew"
        console.print(f"  split {split.name} is kept; {told}", soft_wrap=True)
    if split.kind != "random" or "held_out_share" not in settings.model_fields_set:
        return
    held = {cohort.patients[name] for name in (*split.validation, *split.test)}
    patients = len(held | {cohort.patients[name] for name in split.train})
    wanted = held_out_of(patients, settings)
    if len(held) != wanted:
        told = f"holds {len(held)} of {patients} patients out, not {wanted}; delete {path} to draw it anew"
        console.print(f"  split {split.name} is kept; it {told}", soft_wrap=True)


def _refuse_wider_windows(cohort: Cohort, windows: Windows) -> None:
    """Blocks were cut for windows of a size; larger ones would share pixels across the buffer."""
    blocks = Blocks.read(cohort.path)
    if blocks is None:
        return
    centres = {name: section.centres_um_yx() for name, section in cohort.sections.items()}
    wanted = buffer_for(centres, windows.size_px * cohort.mpp, windows.reach_um)
    if wanted > blocks.buffer_um + 1e-6:
        raise StainglassError(
            cohort.path / FILE,
            f"blocks lie {blocks.buffer_um:.0f} µm apart, these windows need {wanted:.0f}",
            "Delete it and splits/default.json, and train anew",
        )
