"""Features of some identities, or of the cells of their images, laid out in the plane by t-SNE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reid_train.evaluation.distances import unit_rows
from reid_train.figures.charts import panels, svg
from reid_train.figures.part_features import GROUPS

IDENTITIES, PER_IDENTITY, FEWEST = 12, 40, 10
# Told apart by brightness too.
_GROUP_COLOURS = ("#d62728", "#9ecae1", "#08306b")
_SIGNS = "osD^vP"


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


def embedding_map(features: np.ndarray, pids: Sequence[int]) -> str:
    """SVG text: features (N, D) float of N >= FEWEST images by t-SNE (van der Maaten and Hinton,
    JMLR 2008) on cosine distances; one colour and sign per identity. Equal input gives equal
    points: the start is a PCA and the generator seeded.
    """
    points = _layout(features)
    figure, (axis,) = panels(1, size=(5.2, 4.2))
    labels = np.asarray(pids)
    for number, pid in enumerate(sorted(set(pids))):
        mine = points[labels == pid]
        axis.scatter(
            mine[:, 0],
            mine[:, 1],
            s=18,
            marker=_SIGNS[number % len(_SIGNS)],
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


def part_map(features: np.ndarray, groups: Sequence[int], pids: Sequence[int]) -> str:
    """SVG text: features (M, D) float of cells by t-SNE as in ``embedding_map``; the colour says
    which of ``GROUPS`` a cell shows, the sign whose it is.
    """
    points, group, labels = _layout(features), np.asarray(groups), np.asarray(pids)
    figure, (axis,) = panels(1, size=(5.2, 4.2))
    people = sorted(set(pids))
    for number, pid in enumerate(people):
        for place, colour in enumerate(_GROUP_COLOURS):
            mine = points[(labels == pid) & (group == place)]
            axis.scatter(
                mine[:, 0],
                mine[:, 1],
                s=16,
                marker=_SIGNS[number % len(_SIGNS)],
                color=colour,
                edgecolors="#333",
                linewidths=0.3,
            )
    axis.set_xticks([])
    axis.set_yticks([])
    for place, name in enumerate(GROUPS):
        axis.scatter([], [], s=16, color=_GROUP_COLOURS[place], label=name)
    for number, pid in enumerate(people):
        axis.scatter([], [], s=16, marker=_SIGNS[number % len(_SIGNS)], color="#777",
                     label=f"identity {pid}")  # fmt: skip
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return svg(figure)


def _layout(features: np.ndarray) -> np.ndarray:
    """(N, 2) places of features (N, D)."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return layout.fit_transform(unit_rows(features))
