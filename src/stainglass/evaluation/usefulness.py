"""What classifiers are taught to find out whether synthetic tissue is of use: real, augmented, painted, shuffled.

Train on synthetic, test on real (Esteban et al. 2017, arXiv:1706.02633), with four things beside it: the same real
windows, ordinary augmentation of them at the same number of pictures (flips, turns and stain, which help most in
histology: Tellez et al. 2019, doi:10.1016/j.media.2019.101544), real and painted together, and patches painted from
the genes of other spots. Everything is made of the same labelled training windows, one picture a window and kind, so
that a share of the labels is the same share of every training set.

For the shuffled ones nothing is painted anew: a label stands beside the patch of another, distant spot. Noise knows
nothing of tissue, so that is as good as other genes in the same noise, and it can be done many times. It must be: a
single shuffle of a few dozen labels teaches a classifier something, right or wrong, by luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from stainglass.analysis.classifier import COMPONENTS, LEAST_SPOTS
from stainglass.evaluation.measure import Features
from stainglass.evaluation.resampling import derange_as_far_as_possible
from stainglass.evaluation.settings import EvaluationSettings, Judge
from stainglass.evaluation.stage import Stage
from stainglass.evaluation.tissue import Painter, Tissue
from stainglass.genes.classes import UNASSIGNED
from stainglass.models.turns import TURNS, turn_plane
from stainglass.progress import progress_bar
from stainglass.training.align import stain_varied

STAIN_DEVIATION = 0.15
"""Of the factor each colour's optical density is multiplied by in ordinary augmentation, as CLIP's training has it."""
SHUFFLES = 20
STREAM = 6
"""Of the evaluation's random numbers: these rows draw from their own, so that no other row changes with them."""

Parts = tuple[NDArray[np.float64], ...]
"""Pictures that are taught together, a row of components each: one array a kind, all in the order of the windows."""


@dataclass(frozen=True)
class Lessons:
    """Everything that classifiers are taught, as components of the leading judge's features.

    Attributes
    ----------
    classes
        K names; classes with too few of the chosen windows are not taught.
    labels
        (m,) class of each chosen training window.
    patients
        (m,) whose it is.
    sets
        Training set → one `Parts` a noise seed; ``train`` has a single one, since nothing is drawn.
    moves
        Derangements of the windows: whose patch stands beside each label in the shuffled set.
    judge
        Name of the network whose features are taught.
    components
        Features → components; fitted on real training windows, without labels.
    seeds
        Noise seeds.
    distance_um
        From how far away the genes of the shuffled patches come, at least.
    seen
        Patients of every real training window, so of all that the generator was trained on.
    why_not
        Why nothing can be taught; None when it can.
    """

    classes: tuple[str, ...]
    labels: Int64[np.ndarray, m]
    patients: tuple[str, ...]
    sets: Mapping[str, tuple[Parts, ...]]
    moves: tuple[NDArray[np.int64], ...]
    judge: str
    components: Pipeline
    seeds: tuple[int, ...]
    distance_um: float
    seen: frozenset[str]
    why_not: str | None = None

    def project(self, features: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n c"]:
        """Whitened components of features."""
        return np.asarray(self.components.transform(np.asarray(features, np.float64)))

    def why(self, patients: Sequence[str]) -> str | None:
        """What keeps figures on these patients' windows from being about new patients; None where nothing does."""
        tested, found = set(patients), []
        taught = tested & set(self.patients)
        if taught:
            found.append(
                f"patient {', '.join(sorted(taught))} is among those taught: no other patient is there to train on"
            )
        elif tested & self.seen:
            who = ", ".join(sorted(tested & self.seen))
            found.append(f"the generator was trained on another section of patient {who}")
        if len(set(self.patients)) == 1 and not taught:
            found.append(
                f"one patient ({self.patients[0]}) to train on: differences between patients were not taught"
            )
        if len(tested) == 1:
            found.append("one held-out patient: the interval holds over places, not over patients")
        return "; ".join(found) or None


def lessons(
    train: Tissue,
    train_features: Features,
    stages: Sequence[Stage],
    painter: Painter,
    judge: Judge,
    settings: EvaluationSettings,
) -> Lessons:
    """Choose labelled training windows, paint them, and turn every picture into components.

    Parameters
    ----------
    train
        Real training windows; their ``classes`` are the labels.
    stages
        The parts of the split that will be tested on: none of their patients is taught, unless no other is there.
    judge
        The network whose features are taught; it took no part in training.
    """
    rng = np.random.default_rng([settings.choice_seed, STREAM])
    components = _components(train_features[judge.name])
    tested = {patient for stage in stages for patient in stage.real.patients}
    at, classes = _chosen(train, tested, settings.usefulness, rng)
    seen = frozenset(train.patients)
    if len(classes) < 2:
        why = (
            "the training tissue shows no classes by markers"
            if train.classes is None
            else f"{len(classes)} class has {LEAST_SPOTS} of the {settings.usefulness} training windows: nothing to tell apart"
        )
        none = np.zeros(0, np.int64)
        return Lessons((), none, (), {}, (), judge.name, components, settings.seeds, 0.0, seen, why)
    real = train.take(at)
    assert real.classes is not None  # `_chosen` looked at them
    labels = np.array([classes.index(name) for name in real.classes], np.int64)

    def looked(pixels: UInt8[np.ndarray, "n h w 3"], title: str) -> NDArray[np.float64]:
        with progress_bar(f"judging {title}", total=len(pixels)) as advance:
            found = judge.features(pixels, advance)
        return np.asarray(components.transform(np.asarray(found, np.float64)))

    own = np.asarray(components.transform(np.asarray(train_features[judge.name][at], np.float64)))
    sets: dict[str, list[Parts]] = {name: [] for name in ("augmented", "generated", "both")}
    moves, distance = _moves(real, settings.derange_um, rng)
    for seed in settings.seeds:
        painted = looked(painter.paint(real.windows, real.conditions, seed), "painted training windows")
        varied = looked(ordinarily_augmented(real.pixels, seed), "real training windows, augmented")
        sets["augmented"].append((own, varied))
        sets["generated"].append((painted,))
        sets["both"].append((own, painted))
    kept = {"train": ((own,),), **{name: tuple(found) for name, found in sets.items()}}
    return Lessons(
        classes, labels, real.patients, kept, moves, judge.name, components, settings.seeds, distance, seen
    )


def _moves(
    real: Tissue, distance_um: float, rng: np.random.Generator
) -> tuple[tuple[NDArray[np.int64], ...], float]:
    """Many derangements of the windows, all at the largest distance that the tissue allows."""
    _, distance = derange_as_far_as_possible(real.centres_um_yx, real.sections, distance_um, rng)
    found = [
        derange_as_far_as_possible(real.centres_um_yx, real.sections, distance, rng)[0]
        for _ in range(SHUFFLES)
    ]
    return tuple(found), distance


def _components(features: Float32[np.ndarray, "n d"]) -> Pipeline:
    """Whitened principal components of real training windows, the same for every training set.

    They are fitted without labels: pictures are plenty where labels are few. Fitted anew on each training set, the
    larger sets would see more components, and the comparison would be of these.
    """
    most = max(1, min(COMPONENTS, len(features) // 4, features.shape[1]))
    pipeline = make_pipeline(StandardScaler(), PCA(most, svd_solver="full"), StandardScaler())
    return pipeline.fit(np.asarray(features, np.float64))


def _chosen(
    train: Tissue, tested: set[str], most: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, m], tuple[str, ...]]:
    """Indices of at most ``most`` labelled windows, of patients who are not tested where there are any; their classes."""
    if train.classes is None:
        return np.zeros(0, np.int64), ()
    names = np.asarray(train.classes, dtype=object)
    labelled = np.flatnonzero(names != UNASSIGNED)
    apart = np.array([i for i in labelled if train.patients[i] not in tested], np.int64)
    pool = apart if len(apart) else labelled
    drawn = np.sort(rng.permutation(pool)[:most])
    found, counts = np.unique(names[drawn].astype(str), return_counts=True)
    classes = tuple(str(name) for name in found[counts >= LEAST_SPOTS])
    return drawn[np.isin(names[drawn].astype(str), classes)].astype(np.int64), classes


def ordinarily_augmented(
    pixels: UInt8[np.ndarray, "n h w 3"], seed: int, deviation: float = STAIN_DEVIATION
) -> UInt8[np.ndarray, "n h w 3"]:
    """Each picture flipped or turned at random and its stain varied; a function of the seed and its place."""
    found = []
    for i, picture in enumerate(pixels):
        rng = np.random.default_rng([seed, i])
        plane = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
        turned = turn_plane(plane, int(rng.choice(list(TURNS)))).permute(1, 2, 0).numpy()
        found.append(stain_varied(turned, deviation, rng))
    return np.stack(found)


def label_draws(
    patients: Sequence[str], share: float, times: int, rng: np.random.Generator
) -> list[Int64[np.ndarray, k]]:
    """Which windows have a label: a share of each patient's, at least one, drawn so many times.

    The whole is the whole: it is drawn once.
    """
    names = np.asarray(patients)
    if share >= 1:
        return [np.arange(len(names), dtype=np.int64)]
    found = []
    for _ in range(times):
        parts = []
        for patient in np.unique(names):
            own = rng.permutation(np.flatnonzero(names == patient))
            parts.append(own[: max(1, round(share * len(own)))])
        found.append(np.sort(np.concatenate(parts)).astype(np.int64))
    return found
