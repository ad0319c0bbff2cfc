"""How alike two features are, in one number, greater for more alike: the cosine, or for a model
whose features are compared as they are minus their Euclidean distance.
"""

from __future__ import annotations

import numpy as np

from reid_train.models import COSINE, EUCLIDEAN

# In threshold.json, by the distance of the model.
NAMES = {COSINE: "cosine", EUCLIDEAN: "minus the Euclidean distance"}


def similarities(squared: np.ndarray, distance: str) -> np.ndarray:
    """Of squared distances, float, any shape; for "cosine" between unit vectors (d = 2 - 2 cos).

    Rounding makes a distance of equal features slightly negative: such a one counts as 0 for
    "euclidean", and gives a cosine slightly above 1.
    """
    return 1 - squared / 2 if distance == COSINE else -np.sqrt(np.maximum(squared, 0))


def similarity(a: np.ndarray, b: np.ndarray, distance: str) -> float:
    """Of two features (D,), not normalised, computed in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if distance == COSINE:
        return float((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)))
    return -float(np.linalg.norm(a - b))
