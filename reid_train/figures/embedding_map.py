"""Features of some identities laid out in the plane by t-SNE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reid_train.evaluation.distances import unit_rows
from reid_train.figures.charts import panels, svg

IDENTITIES, PER_IDENTITY, FEWEST = 12, 40, 10


def choose(pids: Sequence[int]) -> list[int]:
    """Places of the images to show: the identities with the most images (ties: smaller pid),
    evenly spread ones of each. Fewer than ``FEWEST`` images make no map: an empty list.
    """
    counts = Counter(pids)
    shown = sorted(counts, key=lambda pid: (-counts[pid], pid))[:IDENTITIES]
    chosen: list[int] = []
    for pid in sorted(shown):
        places = [place for place, other in enumerate(pids) if other == pid]
        step = max(1, len(places) // PER_IDENTITY)
        chosen += places[::step][:PER_IDENTITY]
    return chosen if len(chosen) >= FEWEST else []


def embedding_map(features: np.ndarray, pids: Sequence[int]) -> str:
    """SVG text: features (N, D) float of N >= FEWEST images by t-SNE (van der Maaten and Hinton,
    JMLR 2008) on cosine distances; one colour and sign per identity. Equal input gives equal
    points: the start is a PCA and the generator seeded.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=0)
    points = layout.fit_transform(unit_rows(features))  # N 2
    figure, (axis,) = panels(1, size=(5.2, 4.2))
    labels = np.asarray(pids)
    for number, pid in enumerate(sorted(set(pids))):
        mine = points[labels == pid]
        axis.scatter(
            mine[:, 0],
            mine[:, 1],
            s=18,
            marker="osD^vP"[number % 6],
            color=f"C{number % 10}",
            edgecolors="black" if number >= 10 else "none",
            linewidths=0.6,
            label=str(pid),
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(title="identity", fontsize=7, title_fontsize=7, loc="center left",
                bbox_to_anchor=(1, 0.5))  # fmt: skip
    return svg(figure)
