"""Trees of uniformly grey images, and a model whose feature is the grey: rankings to work out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import atomic
from pipeline.artifacts.steps import Job
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import Index, read_index
from pipeline.datasets.layouts import find_root
from pipeline.datasets.sources import index_params
from pipeline.datasets.work import index
from pipeline.images.work import pack
from reid_train.evaluation.needs import check_test
from reid_train.evaluation.work import evaluate

SIZE = (4, 2)


class Grey:
    """Euclidean distances between images are differences between their greys (of 255)."""

    input_size = SIZE
    distance = "euclidean"
    side_tables: dict[str, int] = {}

    def __call__(self, images: Any) -> Any:
        return images[:, :1, 0, 0]


def tree(root: Path, greys: Mapping[str, int], texts: Mapping[str, str] | None = None) -> Path:
    """A tree of PNG data under any name: path -> grey 0..255; and text files: path -> content."""
    for name, grey in greys.items():
        buffer = io.BytesIO()
        Image.fromarray(np.full((*SIZE, 3), grey, np.uint8)).save(buffer, format="PNG")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(buffer.getvalue())
    for name, content in (texts or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def indexed(workspace: Path, root: Path, dataset: str) -> tuple[Path, Index]:
    """The index artifact of a tree, as ``prepare`` makes it, and what is in it."""
    manifest = load_manifest(dataset)
    folder = workspace / f"index {dataset}".replace(":", " ")
    folder.mkdir(parents=True, exist_ok=True)
    params = index_params(workspace, dataset, find_root(root, manifest))
    index(Job(folder, params, {}, workspace))
    return folder, read_index(folder)


def figures(
    monkeypatch: pytest.MonkeyPatch, folder: Path, protocol: str, exclude: str | None = None
) -> dict[str, Any]:
    """``metrics.json`` of the grey model on an index, by the worker of ``eval``; what is checked
    before other work has been."""
    workspace, source = folder.parent, read_index(folder)
    manifest = load_manifest(source.dataset)
    rule = exclude or manifest.protocol(protocol).exclude
    params = {"protocol": protocol, "exclude": rule, "flip": False, "rerank": None}
    check_test(source, params, run="grey")
    images, model = workspace / "images", workspace / "model"
    images.mkdir(exist_ok=True)
    model.mkdir(exist_ok=True)
    pack(Job(images, {"size": list(SIZE), "filter": "bilinear"}, {"index": folder}, workspace))
    network = {"trunk": "grey", "input_size": list(SIZE), "mean": [0.5] * 3, "std": [0.5] * 3}
    about = {"recipe": {"name": "grey"}, "dataset": None, "model": network}
    atomic.write_json(model / "model.json", about)
    monkeypatch.setattr("reid_train.load_model", lambda *_, **__: Grey(), raising=False)
    out = workspace / f"evaluation {protocol} {rule}"
    out.mkdir()
    inputs = {"index": folder, "images": images, "model": model}
    return evaluate(Job(out, params, inputs, workspace, device="cpu"))


def brief(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that are worked out by hand: to 9 digits, so that they can be compared."""
    return {
        "queries": (metrics["queries"], metrics["valid_queries"]),
        "gallery": metrics["gallery"],
        "mAP": round(metrics["mAP"], 9),
        "mINP": round(metrics["mINP"], 9),
        "cmc": tuple(round(metrics["cmc"][rank], 9) for rank in ("1", "5", "10")),
    }


def by_hand(
    queries: tuple[int, int], gallery: int, mAP: float, mINP: float, cmc: tuple[float, ...]
) -> dict[str, Any]:
    """What ``brief`` must give. queries: all, valid. cmc: at ranks 1, 5, 10."""
    return {
        "queries": queries,
        "gallery": gallery,
        "mAP": round(mAP, 9),
        "mINP": round(mINP, 9),
        "cmc": tuple(round(value, 9) for value in cmc),
    }
