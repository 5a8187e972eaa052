"""Names of the figures on a card, of which a recipe declares one before the run."""

from __future__ import annotations

METRICS = (
    *("recovery", "recovery_share", "recovery_gain", "cell_types", "cell_types_share", "cell_types_gain"),
    *(
        f"{programme}{kind}"
        for programme in ("hypoxia", "immune", "stroma")
        for kind in ("", "_share", "_gain")
    ),
    *("ssim", "ssim_gain", "lpips", "lpips_gain", "cosine", "cosine_gain"),
    *("kid", "fd", "fd_infinity", "fid", "fid_infinity", "precision", "recall", "density", "coverage"),
    *("nuclei_density", "nuclei_density_gain", "nuclei_area", "nuclei_area_gain"),
    *("optical_density", "optical_density_gain", "nuclei_density_ratio", "nearest_train", "copy_rate"),
    *(f"clip_{partner}{kind}" for partner in ("gene", "real") for kind in ("", "_mismatched", "_gap")),
    *(f"recall_at_{k}_{way}" for way in ("image_to_gene", "gene_to_image") for k in (1, 5, 10)),
    *(f"usefulness_{figure}{kind}" for figure in ("f1", "auroc") for kind in ("", "_gain")),
)
"""Every metric; see `stainglass.evaluation.card.Row.metric`."""


def metric_named(declared: str) -> str:
    """A declared metric by its name on the card ("gene recovery share" is understood).

    Raises
    ------
    ValueError
        When there is no such metric.
    """
    name = declared.strip().lower().removeprefix("gene ").replace(" ", "_")
    if name not in METRICS:
        raise ValueError(f"no metric is called {declared!r}; choose one of {', '.join(METRICS)}")
    return name
