"""A prepared cohort: open it, read windows, spots and latents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from jaxtyping import Bool, Float16, Float32, UInt8
from numpy.typing import NDArray

from stainglass.cohort.blocks import PARTS, Block, Blocks, Part
from stainglass.cohort.splits import Split, read_split
from stainglass.cohort.tissue import TISSUE_MPP
from stainglass.cohort.windows import (
    Conditions,
    Window,
    as_bulk,
    depth_of,
    gather_conditions,
    grid_windows,
    patch_windows,
)
from stainglass.errors import StainglassError
from stainglass.files import read_json, write_json
from stainglass.genes.axis import GeneAxis, align_counts
from stainglass.sections.slides import WHITE
from stainglass.units import LATENT_STEP_PX

FORMAT = 1


@dataclass(frozen=True)
class SectionRecord:
    """What ``cohort.json`` keeps of a section: small, readable without opening its zarr."""

    id: str
    patient: str
    groups: dict[str, str]
    source_mpp: float
    mpp_source: str
    spots: int
    used: int
    dropped: dict[str, int]
    genes: int
    genes_unmapped: int
    median_counts: float
    tissue_mm2: float
    notices: tuple[str, ...]
    inputs: dict[str, str]
    source: dict[str, str] = field(default_factory=dict)
    """What it was read from and how; see `SectionSource.told`."""


class PreparedSection:
    """One section of a cohort. Nothing is read before it is asked for.

    Attributes
    ----------
    record
        Its line in ``cohort.json``.
    mpp
        µm/px of its raster.
    block
        The part of the section this is; None for a whole one.
    """

    def __init__(
        self, path: Path, record: SectionRecord, mpp: float, block: tuple[Block, Part] | None = None
    ) -> None:
        self.path = path
        self.record = record
        self.mpp = mpp
        self.block = block
        self._held: dict[str, NDArray[Any]] = {}
        self._handles: dict[str, Any] = {}
        self._whites: dict[str, NDArray[np.float16]] = {}

    @property
    def id(self) -> str:
        """Name of the section."""
        return self.record.id

    @property
    def source_id(self) -> str:
        """Name of the section as it was read: that of a block is the whole section's."""
        return self.path.stem

    @cached_property
    def root(self) -> zarr.Group:
        """The section's zarr, opened for reading."""
        if not self.path.is_dir():
            raise StainglassError(
                self.path, "this section's data are missing", "Run 'stainglass prepare' again"
            )
        return zarr.open_group(self.path, mode="r")

    @cached_property
    def raster(self) -> zarr.Array:
        """Level 0 of the image, uint8 (h, w, 3)."""
        return self.root["he/0"]

    @property
    def size_px_yx(self) -> tuple[int, int]:
        """(height, width) of the raster."""
        return self.raster.shape[0], self.raster.shape[1]

    @cached_property
    def spots(self) -> ad.AnnData:
        """Every spot of the input, raw counts on the section's own genes; ``obs["used"]`` says which count."""
        return ad.io.read_elem(self.root["spots"])

    @cached_property
    def used_spots(self) -> ad.AnnData:
        """The spots that were not dropped, of the block where this is one."""
        used = self.spots.obs["used"].to_numpy(dtype=bool)
        if self.block is not None:
            block, part = self.block
            used = used & block.of(part, np.asarray(self.spots.obsm["spatial_um_yx"], dtype=np.float64))
        return self.spots[used].copy()

    @cached_property
    def genes(self) -> GeneAxis:
        """The genes this section measured; read without its counts, so that the axis of many sections takes no memory."""
        table = ad.io.read_elem(self.root["spots/var"])
        return GeneAxis(tuple(table.index), tuple(table["symbol"].astype(str)))

    @cached_property
    def tissue(self) -> Bool[np.ndarray, "h w"]:
        """Tissue mask, cells of ``TISSUE_MPP`` µm."""
        return np.asarray(self.root["tissue/mask"][:], dtype=bool)

    def centres_um_yx(self) -> NDArray[np.float64]:
        """(used spots, 2) centres in µm."""
        return np.asarray(self.used_spots.obsm["spatial_um_yx"], dtype=np.float64)

    def counts_on(self, axis: GeneAxis) -> tuple[Float32[np.ndarray, "spots g"], Bool[np.ndarray, g]]:
        """Raw counts of the used spots on another gene axis (unmeasured genes are zero), and which were measured."""
        counts, measured = align_counts(self.used_spots.X, self.genes, axis)
        return np.asarray(counts.toarray(), dtype=np.float32), measured

    def pixels(self, window: Window) -> UInt8[np.ndarray, "size size 3"]:
        """The window's pixels; white outside the raster."""
        return _cut(self._array("he/0"), window.top_px, window.left_px, window.size_px, WHITE)

    def latents(self, raster: str, window: Window) -> Float16[np.ndarray, "c size/8 size/8"]:
        """The window's latents; those of white glass outside the raster."""
        array = self._array(f"latent/{raster}")
        step = LATENT_STEP_PX
        white = self._white(raster)
        cut = _cut(array, window.top_px // step, window.left_px // step, window.size_px // step, white)
        return np.ascontiguousarray(np.moveaxis(cut, -1, 0))

    def has_latents(self, raster: str) -> bool:
        """Whether this latent raster was written whole."""
        return (self.path / "latent" / raster / "zarr.json").is_file()

    def keep_in_memory(self, what: str) -> int:
        """Hold an array (``he/0``, ``latent/NAME``) in memory from now on; returns its bytes."""
        if what not in self._held:
            self._held[what] = np.asarray(self.root[what][:])
        return int(self._held[what].nbytes)

    def _array(self, what: str) -> Any:
        """The array in memory, or a handle on the one on disk; opening it anew would cost as much as reading."""
        return self._held[what] if what in self._held else self._handle(what)

    def _handle(self, what: str) -> Any:
        if what not in self._handles:
            self._handles[what] = self.root[what]
        return self._handles[what]

    def _white(self, raster: str) -> NDArray[np.float16]:
        """The latent of glass; zarr makes its attributes anew each time they are asked for, so it is kept."""
        if raster not in self._whites:
            self._whites[raster] = np.asarray(self._handle(f"latent/{raster}").attrs["white"], np.float16)
        return self._whites[raster]

    def bytes_of(self, what: str) -> int:
        """Bytes an array takes in memory."""
        return int(self.root[what].nbytes)


def _cut(array: Any, top: int, left: int, size: int, fill: Any) -> NDArray[Any]:
    """A size × size cut of (h, w, c); ``fill`` where it reaches outside."""
    height, width = array.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + size, height), min(left + size, width)
    if y0 == top and x0 == left and y1 == top + size and x1 == left + size:
        return np.asarray(array[y0:y1, x0:x1])
    out = np.empty((size, size, array.shape[2]), array.dtype)
    out[:] = fill
    if y1 > y0 and x1 > x0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = array[y0:y1, x0:x1]
    return out


class Cohort:
    """A prepared, versioned folder of sections on one gene axis and one mpp.

    Examples
    --------
    >>> cohort = Cohort.open("runs/her2st/cohort")  # doctest: +SKIP
    >>> windows = cohort.patches(cohort.split().train, size_px=256)  # doctest: +SKIP
    """

    def __init__(self, path: Path, mpp: float, axis: GeneAxis, records: Sequence[SectionRecord]) -> None:
        self.path = path
        self.mpp = mpp
        self.axis = axis
        self.sections = {r.id: PreparedSection(path / "sections" / f"{r.id}.zarr", r, mpp) for r in records}

    @classmethod
    def open(cls, path: str | Path) -> Cohort:
        """Open a cohort folder, its sections in blocks where it is divided.

        Raises
        ------
        StainglassError
            When there is no cohort, or it was written in another format version.
        """
        folder = Path(path)
        if not (folder / "cohort.json").is_file():
            raise StainglassError(
                folder, "no prepared cohort here", "Run 'stainglass prepare DATA --out COHORT' first"
            )
        tree = read_json(folder / "cohort.json", "cohort")
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise StainglassError(
                folder / "cohort.json",
                f"not a cohort of format {FORMAT}",
                "Prepare it again with this version",
            )
        records = [SectionRecord(**{**r, "notices": tuple(r["notices"])}) for r in tree["sections"]]
        genes = tree["genes"]
        axis = GeneAxis(tuple(genes["ids"]), tuple(genes["symbols"]))
        cohort = cls(folder, float(tree["mpp"]), axis, records)
        blocks = Blocks.read(folder)
        if blocks is not None:
            cohort.in_blocks(blocks)
        return cohort

    def in_blocks(self, blocks: Blocks) -> None:
        """Put a divided section's two blocks in its place."""
        whole, self.sections = self.sections, {}
        for name, section in whole.items():
            block = blocks.sections.get(name)
            if block is None:
                self.sections[name] = section
                continue
            for part in PARTS:
                record = replace(section.record, id=f"{name}.{part}", used=block.spots(part))
                self.sections[record.id] = PreparedSection(section.path, record, self.mpp, (block, part))

    def write_index(self, extra: dict[str, Any]) -> None:
        """Write ``cohort.json``: the derived index of what lies in ``sections/``."""
        records = [json.loads(json.dumps(s.record.__dict__)) for s in self.sections.values()]
        tree = {
            "format": FORMAT,
            "mpp": self.mpp,
            **extra,
            "sections": records,
            "genes": {"ids": list(self.axis.ids), "symbols": list(self.axis.symbols)},
        }
        write_json(self.path / "cohort.json", tree)

    @property
    def patients(self) -> dict[str, str]:
        """Section id → patient."""
        return {s.id: s.record.patient for s in self.sections.values()}

    def split(self, name: str = "default") -> Split:
        """A split of the cohort, checked."""
        return read_split(self.path / "splits" / f"{name}.json", self.patients)

    def patches(self, sections: Iterable[str], size_px: int = 256) -> list[Window]:
        """One window around every used spot of these sections."""
        found: list[Window] = []
        for name in sections:
            section = self.sections[name]
            found += patch_windows(
                name, section.centres_um_yx(), list(section.used_spots.obs_names), self.mpp, size_px
            )
        return found

    def grid(self, sections: Iterable[str], size_px: int = 256, least_tissue: float = 0.5) -> list[Window]:
        """Windows side by side that tile the tissue of these sections."""
        found: list[Window] = []
        for name in sections:
            found += grid_windows(
                name, self.sections[name].tissue, TISSUE_MPP / self.mpp, size_px, least_tissue
            )
        return found

    def pixels(self, windows: Sequence[Window]) -> UInt8[np.ndarray, "n size size 3"]:
        """Pixels of windows of any sections."""
        return np.stack([self.sections[w.section].pixels(w) for w in windows])

    def conditions(
        self, windows: Sequence[Window], axis: GeneAxis, reach_um: float, max_spots: int, bulk: bool = False
    ) -> Conditions:
        """What lies within reach of each window, on a gene axis; ``bulk``: told the section's mean everywhere."""
        by_section: dict[str, list[int]] = {}
        for i, window in enumerate(windows):
            by_section.setdefault(window.section, []).append(i)
        order: list[int] = []
        blocks: list[Conditions] = []
        for name, index in by_section.items():
            section = self.sections[name]
            centres = np.stack([windows[i].centre_um_yx(self.mpp) for i in index])
            counts, measured = section.counts_on(axis)
            block = gather_conditions(
                centres,
                section.centres_um_yx(),
                as_bulk(counts) if bulk else counts,
                section.used_spots.obs["diameter_um"].to_numpy(dtype=np.float64),
                list(section.used_spots.obs_names),
                reach_um,
                max_spots,
            )
            blocks.append(
                replace(
                    block,
                    measured=np.tile(measured, (len(block), 1)),
                    depths=np.full(len(block), depth_of(counts), np.float32),
                )
            )
            order += index
        return joined(blocks).take(np.argsort(np.array(order), kind="stable"))

    def measured(self, windows: Sequence[Window], axis: GeneAxis) -> Float32[np.ndarray, "n g"]:
        """Raw counts of the spot each window is centred on."""
        counts = np.zeros((len(windows), len(axis)), np.float32)
        for name in {w.section for w in windows}:
            section = self.sections[name]
            matrix = section.counts_on(axis)[0]
            rows = {barcode: i for i, barcode in enumerate(section.used_spots.obs_names)}
            for i, window in enumerate(windows):
                if window.section == name and window.spot is not None:
                    counts[i] = matrix[rows[window.spot]]
        return counts

    def cell_types(self, windows: Sequence[Window]) -> pd.DataFrame | None:
        """Cell-type shares of the spot each window is centred on, where every section brings them."""
        tables = {}
        for name in {w.section for w in windows}:
            found = self.sections[name].used_spots.obsm.get("cell_types")
            if not isinstance(found, pd.DataFrame):
                return None
            tables[name] = found
        # A type that one section's table does not name has no share there.
        return pd.concat([tables[w.section].loc[[w.spot]] for w in windows]).fillna(0.0)


def joined(blocks: Sequence[Conditions]) -> Conditions:
    """Conditions of several groups of windows, one after the other."""
    return Conditions(
        np.concatenate([b.counts for b in blocks]),
        np.concatenate([b.offsets_um_yx for b in blocks]),
        np.concatenate([b.diameters_um for b in blocks]),
        np.concatenate([b.present for b in blocks]),
        tuple(row for b in blocks for row in b.barcodes),
        None if any(b.measured is None for b in blocks) else np.concatenate([b.measured for b in blocks]),
        depths=None if any(b.depths is None for b in blocks) else np.concatenate([b.depths for b in blocks]),
    )
