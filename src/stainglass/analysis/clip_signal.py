"""CLIP's vectors and similarity at spots, from the embeddings a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
from jaxtyping import Float64

from stainglass.cohort.cohort import PreparedSection
from stainglass.errors import StainglassError
from stainglass.files import read_json
from stainglass.genes.table import ensembl_id

CLIP_FACTS = "clip.json"


def embeddings_file(run: Path, section: str) -> Path:
    """Where the run keeps CLIP's embeddings of a section."""
    return run / "embeddings" / f"{section}.h5ad"


def clip_vectors(
    run: Path | None, section: PreparedSection, barcodes: Sequence[str]
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "n d"]]:
    """CLIP's unit vectors of picture and expression at spots.

    Raises
    ------
    StainglassError
        When there is no embedding of the section, or it was made on other genes or other spots.
    """
    path = embeddings_file(run, section.id) if run is not None else Path("embeddings")
    if run is None or not path.is_file():
        raise StainglassError(
            path,
            f"this run has no CLIP embeddings of {section.id}",
            "Run 'stainglass align' and 'stainglass embed', or ask for another signal",
        )
    try:
        found = ad.read_h5ad(path)
        image, gene = (np.asarray(found.obsm[f"X_clip_{what}"], np.float64) for what in ("image", "gene"))
    except (OSError, KeyError, ValueError) as error:
        raise StainglassError(
            path, f"not readable as CLIP embeddings ({error})", "Run 'stainglass embed' again"
        ) from None
    _refuse_other_genes(found, section, run, path)
    place = {str(barcode): i for i, barcode in enumerate(found.obs_names)}
    lacking = [barcode for barcode in barcodes if barcode not in place]
    if lacking or image.shape != gene.shape:
        finding = (
            f"{len(lacking)} spots are missing (the first is {lacking[0]})" if lacking else "widths differ"
        )
        raise StainglassError(path, finding, "Run 'stainglass embed' again")
    at = np.array([place[barcode] for barcode in barcodes], dtype=np.int64)
    return image[at], gene[at]


def _refuse_other_genes(found: ad.AnnData, section: PreparedSection, run: Path, path: Path) -> None:
    """The genes an embedding was made from are those of the run's CLIP, and the section measured them."""
    told = found.uns.get("clip", {}).get("genes", found.var_names)
    genes = [str(gene) for gene in told]
    facts = run / "clip" / "model" / CLIP_FACTS
    own = (
        [str(gene) for gene in read_json(facts, "CLIP").get("gene_ids", genes)] if facts.is_file() else genes
    )
    strange = [g for g in genes if (ensembl_id(g) or g) not in section.genes.position]
    if genes != own or len(strange) > len(genes) / 2:
        why = (
            f"{len(strange)} of its {len(genes)} genes are not of {section.id}"
            if genes == own
            else "this run's CLIP reads others"
        )
        raise StainglassError(path, f"made on another gene axis ({why})", "Run 'stainglass embed' again")


def clip_similarity(
    run: Path | None, section: PreparedSection, barcodes: Sequence[str]
) -> Float64[np.ndarray, n]:
    """Cosine of picture and expression at spots."""
    image, gene = clip_vectors(run, section, barcodes)
    size = np.linalg.norm(image, axis=1) * np.linalg.norm(gene, axis=1)
    return np.asarray((image * gene).sum(1) / np.where(size > 0, size, 1))
