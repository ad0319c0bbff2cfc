"""Types of results: float64 for computing on, plain numbers in JSON."""

from __future__ import annotations

import json

import numpy as np

from reid_train.evaluation import Embeddings, evaluate
from reid_train.evaluation.protocols import mean_of_trials


def test_all_fields_are_float64_and_json_takes_them():
    rng = np.random.default_rng(0)
    query = Embeddings(rng.normal(size=(6, 4)), np.arange(6), np.zeros(6))
    gallery = Embeddings(rng.normal(size=(12, 4)), np.arange(12) % 6, np.ones(12))
    found = evaluate(query, gallery)
    for metrics in (found, mean_of_trials([found, found])):
        for value in (metrics.mAP, metrics.mINP, metrics.cmc, metrics.ap):
            assert np.asarray(value).dtype == np.float64 and isinstance(
                value, np.generic | np.ndarray
            )
        assert json.dumps([metrics.mAP]) == f"[{float(metrics.mAP)!r}]"
