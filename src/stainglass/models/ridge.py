"""The one ridge by which something measured is read from features of pictures."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

COMPONENTS = 64
ALPHAS = np.logspace(0, 6, 13)


def reading_ridge(windows: int, features: int) -> Pipeline:
    """Standardise, keep at most 64 components, ridge with the penalty chosen by leave-one-out; not fitted yet.

    Parameters
    ----------
    windows, features
        How many it will be fitted on.
    """
    components = max(1, min(COMPONENTS, windows // 4, features))
    return make_pipeline(
        StandardScaler(), PCA(components, svd_solver="full"), StandardScaler(), RidgeCV(alphas=ALPHAS)
    )
