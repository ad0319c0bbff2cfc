"""Plain data that charts are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np


def _ranks(first: float) -> dict[str, Any]:
    value = [1 - (1 - first) * 0.8**n for n in range(50)]
    return {
        "rank": list(range(1, 51)),
        "value": value,
        "low": [max(0.0, v - 0.05) for v in value],
        "high": [min(1.0, v + 0.05) for v in value],
    }


RANKS = {"a": _ranks(0.5), "b": _ranks(0.7)}

# A false positive rate of 0.1 %, 1 %, 10 %, all of them.
RATES: dict[str, dict[str, Any]] = {
    "a": {"fpr": [0.001, 0.01, 0.1, 1.0], "tpr": [0.2, 0.5, 0.9, 1.0],
          "low": [0.1, 0.4, 0.8, 0.95], "high": [0.3, 0.6, 0.95, 1.0]},
    "b": {"fpr": [0.001, 0.01, 0.1, 1.0], "tpr": [0.3, 0.6, 0.95, 1.0], "low": None, "high": None},
}  # fmt: skip

THRESHOLD: dict[str, Any] = {
    "threshold": 0.5,
    "threshold_fpr": 0.01,
    "similarity": "cosine",
    "pairs": {"same": 10, "different": 100},
    "histogram": {
        "edges": [-1.0, -0.5, 0.0, 0.5, 1.0],
        "same": [0, 1, 1, 8],
        "different": [0, 50, 50, 0],
    },
}

LOGS = {
    "a": [
        {"event": "start", "stages": []},
        {"event": "epoch", "stage": "image", "epoch": 0, "loss": 2.0},
        {"event": "validation", "stage": "image", "epoch": 0, "mAP": 0.25},
        {"event": "epoch", "stage": "image", "epoch": 1, "loss": 1.0},
    ],
    "b": [
        {"event": "epoch", "stage": "prompts", "epoch": 0, "loss": 9.0},
        {"event": "epoch", "stage": "image", "epoch": 0, "loss": 3.0},
    ],
}


def picture(shade: int) -> np.ndarray:
    """uint8 (32, 16, 3)."""
    image = np.full((32, 16, 3), 20 * shade, np.uint8)
    image[8:24, 4:12] = (250, 10, 10 * shade)
    return image
