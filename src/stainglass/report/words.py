"""What the card's figures mean, in a pathologist's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A metric's name and one sentence about it."""

    title: str
    meaning: str


SUBJECTS: dict[str, Words] = {
    "floor": Words("real", "Real tissue of the same section against itself: the best any painter could do."),
    "reconstruction": Words(
        "reconstruction", "Real windows through the autoencoder and back: the ceiling of this model."
    ),
    "generated": Words("generated", "Painted from each window's own spots."),
    "from_image": Words(
        "from its picture",
        "Told CLIP's embedding of the real window instead of genes: this patch painted again, not predicted.",
    ),
    "same_class": Words("real, same class", "A real window of the same class of tissue, somewhere else."),
    "retrieval": Words(
        "retrieval", "No painting at all: the real training window with the most similar expression."
    ),
    "bulk": Words("section mean", "Every spot is given the section's mean expression: genes without place."),
    "shuffled": Words("shuffled", "Same noise, but the spots of another, distant place."),
    "other_patient_genes": Words("other patient's genes", "Same noise, but the spots of another patient."),
    "unconditional": Words("no genes", "Same noise, told nothing."),
    "mean_image": Words("mean image", "One flat average picture, everywhere."),
    "train": Words("training tissue", "Real windows the model was trained on."),
    "other_patient": Words("other patient", "Real windows of another patient."),
}

TRAINING_SETS: dict[str, Words] = {
    "train": Words("real", "Real training windows."),
    "augmented": Words(
        "real, ordinary augmentation",
        "The same windows and a flipped or turned view of each in a varied stain.",
    ),
    "generated": Words(
        "painted", "Patches painted from the spots of the same windows, one each; no real one."
    ),
    "both": Words("real and painted", "As many pictures as with ordinary augmentation."),
    "shuffled": Words(
        "painted, shuffled genes", "Each label beside a patch of a distant spot: should be chance."
    ),
    "majority": Words("commonest class", "No classifier: every window is called the commonest class."),
}
"""What classifiers are trained on, in the rows on usefulness."""

USEFULNESS_GAINS: dict[str, str] = {
    "train": "real and painted, over real",
    "augmented": "real and painted, over real with ordinary augmentation",
    "shuffled": "painted, over painted with shuffled genes",
}
"""Subject of a gain → what is gained over what."""

METRICS: dict[str, Words] = {
    "recovery": Words(
        "Gene recovery (r)",
        "How well the expression measured in a spot can be read from its picture. The reader learned on real "
        "training tissue only; 0 is nothing, and real windows are the ceiling.",
    ),
    "recovery_share": Words(
        "Share of real recovery", "Gene recovery as a share of what the real windows give."
    ),
    "recovery_gain": Words(
        "Gain in gene recovery",
        "Recovery from the generated windows minus recovery from the control in this column. Above zero "
        "with its whole interval: the right genes mattered.",
    ),
    "cell_types": Words("Cell types (r)", "As gene recovery, for the shares of cell types in a spot."),
    "cell_types_share": Words("Share of real cell types", "As a share of what the real windows give."),
    "cell_types_gain": Words("Gain in cell types", "Generated minus the control in this column."),
    "hypoxia": Words(
        "Hypoxia (r)",
        "As gene recovery, for the hallmark of hypoxia. Necrosis is rare, so a Fréchet distance hardly feels it.",
    ),
    "immune": Words(
        "Immune infiltration (r)", "As gene recovery, for markers of T, B, plasma and myeloid cells."
    ),
    "stroma": Words(
        "Stromal remodelling (r)",
        "As gene recovery, for the hallmark of epithelial-mesenchymal transition: in a tumour mostly matrix that "
        "fibroblasts lay and cut.",
    ),
    **{
        f"{name}{kind}": words
        for name, title in (
            ("hypoxia", "hypoxia"),
            ("immune", "immune infiltration"),
            ("stroma", "remodelling"),
        )
        for kind, words in (
            ("_share", Words(f"Share of real {title}", "As a share of what the real windows give.")),
            ("_gain", Words(f"Gain in {title}", "Generated minus the control in this column.")),
        )
    },
    "ssim": Words(
        "SSIM",
        "Pixel structure shared with the real window. A flat colour scores well: never read it alone. System 1 was "
        "published with 0.102.",
    ),
    "ssim_gain": Words("Gain in SSIM", "Generated over the control in this column."),
    "lpips": Words(
        "LPIPS",
        "Perceived difference from the real window of the same place. Read it beside real windows of the same class and "
        "the flat mean image. System 1 was published with 1.095.",
    ),
    "lpips_gain": Words("Gain in LPIPS", "How much nearer than the control in this column."),
    "cosine": Words(
        "Cosine of features", "Likeness to the real window in the eyes of a network; 0 is unrelated tissue."
    ),
    "cosine_gain": Words("Gain in cosine", "Generated over the control in this column."),
    "kid": Words("KID", "Distance between the two collections of windows; fair at small numbers."),
    "fid": Words(
        "FID",
        "Distance between the two collections in the eyes of the 2015 Inception network; too large when windows are few, "
        "and comparable only at the same N and the same resize.",
    ),
    "fid_infinity": Words("FID∞", "FID extrapolated to infinitely many windows, which takes its bias away."),
    "fd": Words("FD", "Fréchet distance between the two collections; too large when windows are few."),
    "fd_infinity": Words("FD∞", "Extrapolated to infinitely many windows, which takes its bias away."),
    "precision": Words("Precision", "Share of pictures that could be real tissue."),
    "recall": Words("Recall", "Share of real tissue the pictures could show."),
    "density": Words(
        "Density", "How deep inside real tissue's range the pictures lie; about 1 for real tissue."
    ),
    "coverage": Words("Coverage", "Share of real windows with a picture near; low without variety."),
    "nuclei_density": Words("Nuclei per area (r)", "Do nuclei crowd where they crowd in the real windows?"),
    "nuclei_density_gain": Words("Gain in nuclei per area", "Generated over the control in this column."),
    "nuclei_area": Words("Nuclear area (r)", "Does the share of nuclear area follow the real windows?"),
    "nuclei_area_gain": Words("Gain in nuclear area", "Generated over the control in this column."),
    "optical_density": Words("Stain density (r)", "Does darkness follow the real windows?"),
    "optical_density_gain": Words("Gain in stain density", "Generated over the control in this column."),
    "nuclei_density_ratio": Words("Nuclei, times real", "Nuclei per mm² over the real ones; 1 is right."),
    "nearest_train": Words("Nearest training window", "Distance in feature space; 0 is a copy."),
    "copy_rate": Words(
        "Copy rate",
        "Share nearer to a training window than 1 in 100 real held-out windows. Training tissue and "
        "retrieval are copies: they must show near 100 %.",
    ),
    "clip_gene": Words(
        "CLIP cosine, picture with genes",
        "Cosine of the picture's and the genes' embedding. It means nothing alone: read the gap. Under 'real' it is image "
        "with gene. System 1 was published with 0.933 and no mismatched partner.",
    ),
    "clip_gene_mismatched": Words("… mismatched", "The same with the genes of another, distant spot."),
    "clip_gene_gap": Words("… gap", "Matched minus mismatched, paired window by window."),
    "clip_real": Words(
        "CLIP cosine, picture with real window",
        "Cosine of the embeddings of the picture and the real window.",
    ),
    "clip_real_mismatched": Words("… mismatched", "The same with a distant real window."),
    "clip_real_gap": Words("… gap", "Matched minus mismatched, paired window by window."),
    **{
        f"recall_at_{k}_{way}": Words(
            f"Recall@{k}, {way.replace('_', ' ')}",
            f"How often the right partner is among the {k} nearest of 100 candidates of the same section.",
        )
        for way in ("image_to_gene", "gene_to_image")
        for k in (1, 5, 10)
    },
    "usefulness_f1": Words(
        "Macro-F1", "Mean over classes of the F1 of a classifier of real held-out windows."
    ),
    "usefulness_f1_gain": Words(
        "Gain in macro-F1", "Over the training set named beside it, window by window."
    ),
    "usefulness_auroc": Words("AUROC", "Mean over classes, each against the rest; 0.5 is chance."),
    "usefulness_auroc_gain": Words(
        "Gain in AUROC", "Over the training set named beside it, window by window."
    ),
}

FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Do the genes drive the picture?",
        "Expression and cell types read back from pictures.",
        ("recovery", "recovery_share", "recovery_gain", "cell_types", "cell_types_share", "cell_types_gain"),
    ),
    (
        "What a Fréchet distance cannot see",
        "States of tissue read back from pictures: readers learned on real training tissue, beside real, shuffled and "
        "section-mean windows.",
        tuple(
            f"{name}{kind}" for name in ("hypoxia", "immune", "stroma") for kind in ("", "_share", "_gain")
        ),
    ),
    (
        "Is the right tissue in the right place?",
        "Each picture beside the real window of the same spot.",
        (
            "nuclei_density",
            "nuclei_density_gain",
            "nuclei_area",
            "nuclei_area_gain",
            "optical_density",
            "optical_density_gain",
            "cosine",
            "cosine_gain",
            "lpips",
            "lpips_gain",
            "ssim",
            "ssim_gain",
        ),
    ),
    (
        "Does it look like this tissue at all?",
        "All pictures together beside all real windows together.",
        (
            *("kid", "fid", "fid_infinity", "fd", "fd_infinity"),
            *("precision", "recall", "density", "coverage", "nuclei_density_ratio"),
        ),
    ),
    (
        "Do pictures and genes meet in CLIP's space?",
        "CLIP was trained on the training sections: it is examined here, and does not judge.",
        (
            *(
                f"clip_{partner}{kind}"
                for partner in ("gene", "real")
                for kind in ("", "_mismatched", "_gap")
            ),
            *(f"recall_at_{k}_{way}" for way in ("image_to_gene", "gene_to_image") for k in (1, 5, 10)),
        ),
    ),
    ("Is it copied?", "Nearness to the training windows.", ("copy_rate", "nearest_train")),
)
"""The card's sections: question, what is compared, metrics."""

ARROWS = {"higher": "↑ higher is better", "lower": "↓ lower is better", "neither": "no better direction"}
