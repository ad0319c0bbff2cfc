"""Labels from clusters: re-identification without identities (SpCL, ClusterContrast, PCL-CLIP)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.dataset import ReidBatches
from reid_train.data.sampler import RestartedSampler
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import ReidTask
from reid_train.evaluation.rerank import jaccard_graph
from reid_train.hooks.memory import MemoryHook, training_features

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


log = logging.getLogger(__name__)


class ClusterHook(MemoryHook):
    """Before every epoch: features of the training images, their k-reciprocal Jaccard distances
    (``k1``, ``k2``), DBSCAN (``eps``, ``min_samples``); clusters become the labels of the epoch,
    images in none are left out, and the memories are built from the clusters.

    ``centre_cameras``: distances are of features less the mean of their camera, so that clusters
    are not of places; images of unknown camera count as those of one camera. No part of PCL-CLIP;
    for trunks whose features say more about the camera than about the person.

    The identities of the data set are never trained on, and need not be known; they only say how
    good the clusters are. Logged per epoch: ``clusters``, ``outliers`` (images in no cluster) and,
    over the images in clusters whose identity is known, if some are, normalised mutual information
    ``nmi`` and adjusted Rand index ``ari``.
    """

    def __init__(
        self,
        *,
        batches: ReidBatches,
        runtime: Runtime,
        batch: int = 64,
        eps: float = 0.6,
        min_samples: int = 4,
        k1: int = 30,
        k2: int = 6,
        centre_cameras: bool = False,
    ) -> None:
        super().__init__(batches=batches, runtime=runtime, batch=batch)
        _check_dbscan(eps, min_samples)
        self.eps, self.min_samples, self.k1, self.k2 = eps, min_samples, k1, k2
        images = len(batches.data.keys)
        self.cameras = batches.data.cameras[:images] if centre_cameras else None
        unknown = 0 if self.cameras is None else int((self.cameras < 0).sum())
        if unknown and runtime.main:
            log.warning(
                "%d of %d images are of unknown cameras: their features are centred together, as "
                "of one camera",
                *(unknown, images),
            )
        # The batches must have no way to an identity.
        self.identities = batches.data.labels[:images]
        batches.data = batches.data.relabelled(np.full(images, -1))

    def begin_epoch(self, task: ReidTask, epoch: int) -> Mapping[str, float]:
        features = training_features(task, self.batches.data, self.runtime, self.batch)
        found = np.full(len(features), -1)
        if self.runtime.main:
            compared = features
            if self.cameras is not None:
                compared = centred(features, self.cameras)
            graph = jaccard_graph(compared, k1=self.k1, k2=self.k2, within=self.eps)
            found = dbscan(graph, eps=self.eps, min_samples=self.min_samples)
        labels = self.runtime.from_main(torch.from_numpy(found)).cpu().numpy()
        figures = agreement(labels, self.identities)
        if figures["clusters"] < 2:
            raise ReidpipeError(
                f"found {figures['clusters']} clusters of {len(labels)} images in epoch {epoch} "
                f"with eps {self.eps}; expected 2 at least; type another "
                "--set stages.0.hooks.0.options.eps=0.5 (smaller: more clusters, more outliers)"
            )
        self._assign(labels)
        self._rebuild(features, epoch)
        return figures

    def _assign(self, labels: np.ndarray) -> None:
        self.batches.data = self.batches.data.relabelled(labels)
        assert isinstance(self.batches.sampler, RestartedSampler)
        # Nobody chooses the number of clusters: one that several processes cannot share must not
        # end the training.
        self.batches.sampler.assign(self.batches.data.labels, processes=self.runtime.world)

    def state_dict(self) -> dict[str, Any]:
        labels = self.batches.data.labels[: len(self.identities)]
        return {**super().state_dict(), "labels": torch.from_numpy(labels.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._assign(state["labels"].numpy())


def centred(features: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Unit features float32 N,D less the mean over their camera (int N), of norm 1 again."""
    moved = features.copy()
    for camera in np.unique(cameras):
        of_camera = cameras == camera
        moved[of_camera] -= features[of_camera].mean(axis=0)
    # Of a camera's only image nothing is left: it stays 0, as far from one as from another.
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)


def dbscan(graph: csr_matrix, *, eps: float, min_samples: int = 4) -> np.ndarray:
    """Clusters of N images by density (Ester et al. 1996): int64 N, -1 for images in none.

    graph: symmetric distances N,N below 1 with the diagonal stored; what is not stored is farther
    than any ``eps``. Equal to scikit-learn's DBSCAN on the full matrix with 1 in these places, but
    never makes that matrix. Raises ReidpipeError for an ``eps`` that is not between 0 and 1.
    """
    from scipy.sparse import csr_matrix
    from sklearn.cluster import DBSCAN

    _check_dbscan(eps, min_samples)
    count = len(graph.indptr) - 1
    near = graph.data <= eps
    rows = np.repeat(np.arange(count), np.diff(graph.indptr))[near]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    # Pairs beyond eps take no part, and DBSCAN copies what it is given.
    small = csr_matrix((graph.data[near], graph.indices[near], bounds), shape=(count, count))
    found = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(small)
    return found.labels_.astype(np.int64)


def agreement(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """How clusters (int N, -1 = none) agree with identities (int N, -1 = unknown): counts, and NMI
    and ARI over the images in clusters whose identity is known (0 when there are none), unless none
    is known at all.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    kept = labels >= 0
    counts: dict[str, float] = {
        "clusters": len(np.unique(labels[kept])),
        "outliers": int((~kept).sum()),
    }
    known = identities >= 0
    if not known.any():
        return counts
    found, truth = labels[kept & known], identities[kept & known]
    return {
        **counts,
        "nmi": float(normalized_mutual_info_score(truth, found)) if len(found) else 0.0,
        "ari": float(adjusted_rand_score(truth, found)) if len(found) else 0.0,
    }


def _check_dbscan(eps: float, min_samples: int) -> None:
    if not 0 < eps < 1:
        raise ReidpipeError(
            f"found eps {eps}; expected a Jaccard distance between 0 and 1; "
            "type --set stages.0.hooks.0.options.eps=0.5"
        )
    if min_samples < 1:
        raise ReidpipeError(f"found min_samples {min_samples}; expected 1 or more")
