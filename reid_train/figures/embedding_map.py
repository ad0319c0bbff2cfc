"""Features of some identities, or of the cells of their images, laid out in the plane by t-SNE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reid_train.evaluation.distances import unit_rows
from reid_train.figures.charts import scatter
from reid_train.figures.charts.saving import svg
from reid_train.figures.charts.style import Width
from reid_train.figures.part_features import GROUPS

IDENTITIES, PER_IDENTITY, FEWEST = 12, 40, 10


def choose(
    pids: Sequence[int], *, identities: int = IDENTITIES, per_identity: int = PER_IDENTITY
) -> list[int]:
    """Places of the images to show: the identities with the most images (ties: smaller pid),
    evenly spread ones of each. Fewer than ``FEWEST`` images make no map: an empty list.
    """
    counts = Counter(pids)
    shown = sorted(counts, key=lambda pid: (-counts[pid], pid))[:identities]
    chosen: list[int] = []
    for pid in sorted(shown):
        places = [place for place, other in enumerate(pids) if other == pid]
        step = max(1, len(places) // per_identity)
        chosen += places[::step][:per_identity]
    return chosen if len(chosen) >= FEWEST else []


def embedding_map(features: np.ndarray, pids: Sequence[int], *, width: Width = "two") -> str:
    """SVG text: features (N, D) float of N >= FEWEST images by ``layout``; one colour and mark per
    identity.
    """
    return svg(scatter.identities(layout(features), pids, width=width))


def part_map(
    features: np.ndarray, groups: Sequence[int], pids: Sequence[int], *, width: Width = "two"
) -> str:
    """SVG text: features (M, D) float of cells by ``layout``; the colour says which of ``GROUPS`` a
    cell shows, the mark whose it is.
    """
    return svg(scatter.parts({"": (layout(features), groups, pids)}, GROUPS, width=width))


def layout(features: np.ndarray) -> np.ndarray:
    """float32 (N, 2): features (N, D) by t-SNE (van der Maaten and Hinton, JMLR 2008) on cosine
    distances. Equal input gives equal points: the start is a PCA and the generator seeded.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(
        unit_rows(features)
    )
