"""Put sections on one mpp: read, check, resample, mask, write; each section whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import zarr

from stainglass.cohort.cohort import Cohort, PreparedSection, SectionRecord
from stainglass.cohort.proof import draw_proof
from stainglass.cohort.raster import create_raster, raster_size_px, write_raster
from stainglass.cohort.scale import cohort_mpp, prepared_with, settle_scale
from stainglass.cohort.tissue import TISSUE_MPP, grown, tissue_mask, tissue_share
from stainglass.config import Prepare
from stainglass.errors import StainglassError
from stainglass.files import atomic_path, read_json, require_free_space, sweep_temporaries, write_json
from stainglass.genes.axis import GeneAxis, union_axis
from stainglass.progress import console, progress_bar
from stainglass.sections.read import SectionSource
from stainglass.sections.section import Section
from stainglass.units import px_to_um, xy_to_yx

PROOF_PX = 1600


def prepare_cohort(sources: Sequence[SectionSource], out: Path, settings: Prepare | None = None) -> Cohort:
    """Read, check and write sections that the cohort does not hold yet.

    Parameters
    ----------
    sources
        Sections by `stainglass.sections.read_sections`.
    out
        Cohort folder; an existing one is added to, at its own mpp.
    settings
        Wanted mpp and margin.

    Returns
    -------
    The cohort, opened.

    Raises
    ------
    StainglassError
        On the first section that cannot be used; those already written stay.
    """
    settings = settings or Prepare()
    folder = sections_folder(out)
    seen: dict[str, Section] = {}
    mpp = cohort_mpp(sources, out, settings, seen)
    settle_scale(out, mpp, settings)
    with progress_bar("preparing sections", len(sources)) as advance:
        for source in sources:
            if is_prepared(source, folder):
                keep_section(source, folder)
                advance(1, f"{source.id}: already there")
                continue
            advance(0, source.id)
            record = prepare_section(source, out, mpp, settings, seen.pop(source.id, None))
            tell_notices(record)
            advance(1, source.id)
    return index_cohort(out, mpp, settings, [s.id for s in sources])


def prepare_section(
    source: SectionSource, out: Path, mpp: float, settings: Prepare, section: Section | None = None
) -> SectionRecord:
    """Write one section and its proof image; whole, or not at all. Touches nothing else, so many may run at once.

    Parameters
    ----------
    section
        The section, when it was read already; it is closed here.
    """
    path = out / "sections" / f"{source.id}.zarr"
    section = section or source.read()
    _refuse_twice(section, out)
    with section.slide, atomic_path(path) as temporary:
        record = _write_section(section, temporary, mpp, settings, source.told)
    _draw_proof(PreparedSection(path, record, mpp), out)
    return record


def is_prepared(source: SectionSource, folder: Path) -> bool:
    """Whether a section lies there whole, of this patient and this source.

    Raises
    ------
    StainglassError
        When it was made of another: a manifest was corrected.
    """
    path = folder / f"{source.id}.zarr"
    if not (path / "record.json").is_file():
        return False
    _refuse_another_source(source, path)
    return True


def keep_section(source: SectionSource, folder: Path) -> None:
    """Leave a prepared section as it is, but for the groups that a manifest puts it into: they may have been corrected."""
    path = folder / f"{source.id}.zarr" / "record.json"
    record = read_json(path, "section record")
    if source.groups is not None and record["groups"] != source.groups:
        write_json(path, {**record, "groups": dict(source.groups)})


def tell_notices(record: SectionRecord) -> None:
    """What was found about a section that did not stop it."""
    for notice in record.notices:
        console.print(f"  [dim]{record.id}: {notice}[/dim]", highlight=False)


def sections_folder(out: Path) -> Path:
    """Where sections lie; what a killed run left behind is swept away."""
    folder = out / "sections"
    folder.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(folder)
    return folder


def index_cohort(out: Path, mpp: float, settings: Prepare, order: Sequence[str] = ()) -> Cohort:
    """Derive ``cohort.json`` (records, union of the gene axes) from the sections on disk."""
    found = {}
    for path in sorted((out / "sections").glob("*.zarr")):
        if (path / "record.json").is_file():
            tree = read_json(path / "record.json", "section record")
            found[tree["id"]] = SectionRecord(**{**tree, "notices": tuple(tree["notices"])})
    records = [found[name] for name in order if name in found]
    records += [record for name, record in found.items() if name not in order]
    cohort = Cohort(out, mpp, GeneAxis((), ()), records)
    cohort.axis = union_axis([section.genes for section in cohort.sections.values()])
    cohort.write_index({"prepare": settings.model_dump(mode="json") | prepared_with(out)})
    return Cohort.open(out)


def _refuse_twice(section: Section, out: Path) -> None:
    """The same files under another name would be another patient, and stand on both sides of a split."""
    for path in sorted((out / "sections").glob("*.zarr/record.json")):
        record = read_json(path, "section record")
        if section.inputs and record["inputs"] == section.inputs and record["id"] != section.id:
            raise StainglassError(
                section.id, f"is the section that is in the cohort as {record['id']} already: it is made of the same files",
                f"Name it {record['id']}, or delete {path.parent}",
            )  # fmt: skip


def _refuse_another_source(source: SectionSource, path: Path) -> None:
    """What was corrected in the manifest would leave the old patient in the split, the old pixels and scale in the cohort."""
    record = read_json(path / "record.json", "section record")
    remedy = "Delete this folder and prepare again"
    patient = record["patient"]
    # Without a manifest a section that does not tell its patient goes by its own name.
    told = source.groups is not None or source.patient != source.id
    if told and source.patient != patient:
        raise StainglassError(path, f"was prepared as patient {patient}, now it is {source.patient}", remedy)
    before = record.get("source", {})
    differs = (
        [key for key in sorted({*before, *source.told}) if before.get(key) != source.told.get(key)]
        if before
        else []
    )
    if not differs or ({"path", "slide"}.issuperset(differs) and _only_moved(source, record)):
        return
    was, now = (told.get(differs[0], "none") for told in (before, source.told))
    raise StainglassError(path, f"was prepared with {differs[0]} {was}, now it is {now}", remedy)


def _only_moved(source: SectionSource, record: Mapping[str, Any]) -> bool:
    """Whether the same files lie in another place."""
    section = source.read()
    section.slide.close()
    return sorted(section.inputs.values()) == sorted(record["inputs"].values())


def _write_section(
    section: Section, path: Path, mpp: float, settings: Prepare, told: Mapping[str, str]
) -> SectionRecord:
    """Write one section's zarr and its record."""
    size = raster_size_px(section.slide, section.slide_mpp, mpp)
    require_free_space(path.parent, int(size[0] * size[1] * 3 * 1.4))
    longest = round(max(section.slide.size_px_yx) * section.slide_mpp / TISSUE_MPP)
    tissue = tissue_mask(section.slide.thumbnail(max(longest, 16)))
    spots = _spots_for_disk(section, tissue)
    used_um = np.asarray(spots.obsm["spatial_um_yx"])[spots.obs["used"].to_numpy(dtype=bool)]
    keep = grown(tissue | _near(used_um, section.spot_diameter_um / 2, tissue.shape), settings.margin_um)
    root = zarr.open_group(path, mode="w", zarr_format=3)
    write_raster(
        create_raster(root.create_group("he"), size, mpp), section.slide, section.slide_mpp, mpp, keep
    )
    root.create_group("tissue").create_array("mask", data=tissue)
    root.create_group("latent")
    with warnings.catch_warnings():
        # anndata announces that zarr v3 will be its default; that is what is written here.
        warnings.simplefilter("ignore")
        with ad.settings.override(zarr_write_format=3):
            ad.io.write_elem(root, "spots", spots)
    record = replace(_record(section, spots, tissue), source=dict(told))
    write_json(path / "record.json", record.__dict__)
    return record


def _spots_for_disk(section: Section, tissue: np.ndarray) -> ad.AnnData:
    spots = section.spots.copy()
    um = px_to_um(xy_to_yx(np.asarray(spots.obsm["spatial"])), section.mpp)
    spots.obsm["spatial_um_yx"] = um
    spots.obs["patient"] = section.patient
    spots.obs["tissue_share"] = tissue_share(tissue, um, spots.obs["diameter_um"].to_numpy(dtype=float))
    return spots


def _near(centres_um: np.ndarray, radius_um: float, shape: tuple[int, ...]) -> np.ndarray:
    """Cells of the tissue mask under used spots: pale tissue that the mask missed is kept round them."""
    under = np.zeros(shape, bool)
    cells = np.clip((centres_um / TISSUE_MPP).astype(int), 0, np.array(shape) - 1)
    under[cells[:, 0], cells[:, 1]] = True
    return grown(under, radius_um)


def _record(section: Section, spots: ad.AnnData, tissue: np.ndarray) -> SectionRecord:
    used = spots.obs["used"].to_numpy(dtype=bool)
    totals = np.asarray(spots.X[used].sum(axis=1)).ravel()
    dropped = spots.obs.loc[~used, "why_dropped"].value_counts()
    bare = int((spots.obs["tissue_share"][used] < 0.1).sum())
    notices = list(section.notices)
    if bare:
        notices.append(f"{bare} used spots lie where the image shows hardly any tissue; see the proof image")
    return SectionRecord(
        id=section.id,
        patient=section.patient,
        groups=dict(section.groups),
        source_mpp=round(section.slide_mpp, 6),
        mpp_source=section.mpp_source,
        spots=spots.n_obs,
        used=int(used.sum()),
        dropped={str(why): int(count) for why, count in dropped.items()},
        genes=spots.n_vars,
        genes_unmapped=len(section.genes_unmapped),
        median_counts=float(np.median(totals)) if len(totals) else 0.0,
        tissue_mm2=round(float(tissue.sum()) * TISSUE_MPP**2 / 1e6, 3),
        notices=tuple(notices),
        inputs=dict(section.inputs),
    )


def _draw_proof(section: PreparedSection, out: Path) -> None:
    level = 0
    while max(section.root[f"he/{level}"].shape) > PROOF_PX * 1.5 and f"he/{level + 1}" in section.root:
        level += 1
    picture = np.asarray(section.root[f"he/{level}"][:])
    mpp = section.mpp * section.size_px_yx[0] / picture.shape[0]
    title = f"{section.id} (patient {section.record.patient}), {section.mpp:g} µm/px"
    draw_proof(
        picture,
        mpp,
        np.asarray(section.spots.obsm["spatial_um_yx"]),
        section.spots.obs,
        title,
        out / "proofs" / f"{section.id}.png",
    )
