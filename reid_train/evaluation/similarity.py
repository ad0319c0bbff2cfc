"""How alike two features are, in one number, greater for more alike: the cosine, or for a model
whose features are compared as they are minus their Euclidean distance.

Whatever shows or ranks by a similarity asks this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reid_train.models import COSINE, EUCLIDEAN

# In threshold.json and beside similarities, by the distance of the model.
NAMES = {COSINE: "cosine", EUCLIDEAN: "minus the Euclidean distance"}
LEAST = 1e-12  # norm below which a feature has no direction, as where features are normalised


def similarity_of(
    products: Any, query_norms: Any, gallery_norms: Any, distance: str = COSINE
) -> np.ndarray:
    """Similarities from inner products and L2 norms, which broadcast. The cosine of a feature of
    zeros is 0. Type: that of the arguments.
    """
    products = np.asarray(products)
    if distance == EUCLIDEAN:
        squares = np.square(query_norms) + np.square(gallery_norms) - 2 * products
        return similarities(squares, distance)
    lengths = np.maximum(query_norms, LEAST) * np.maximum(gallery_norms, LEAST)
    zero = (np.asarray(query_norms) < LEAST) | (np.asarray(gallery_norms) < LEAST)
    return np.where(zero, 0, np.clip(products / lengths, -1, 1))


def similarities(squared: np.ndarray, distance: str) -> np.ndarray:
    """Of squared distances, float, any shape; for "cosine" between unit vectors (d = 2 - 2 cos).

    Rounding makes a distance of equal features slightly negative: such a one counts as 0 for
    "euclidean", and gives a cosine slightly above 1.
    """
    return 1 - squared / 2 if distance == COSINE else -np.sqrt(np.maximum(squared, 0))


def similarity(a: np.ndarray, b: np.ndarray, distance: str = COSINE) -> float:
    """Of two features (D,), not normalised, computed in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if distance == EUCLIDEAN:
        return -float(np.linalg.norm(a - b))
    return float(similarity_of(a @ b, np.linalg.norm(a), np.linalg.norm(b)))
