"""A little prepared dataset and an untrained model, laid out as the workspace has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.images.work import pack

SIZE = (128, 48)
PEOPLE, CAMERAS = 5, 3


@dataclass(frozen=True)
class Prepared:
    """Folders of the three inputs of an evaluation, and the job that would evaluate them."""

    index: Path
    images: Path
    model: Path
    root: Path

    def job(self, name: str, **params: Any) -> Job:
        folder = self.root / name
        folder.mkdir()
        inputs = {"index": self.index, "images": self.images, "model": self.model}
        exclude = "none" if params.get("protocol") == "course" else "same-camera"
        params = {"exclude": exclude, "flip": False, "rerank": None, **params}
        params.setdefault("protocol", "standard")
        return Job(folder, params, inputs, self.root, device="cpu")


def picture(pid: int, camera: int, shot: int) -> np.ndarray:
    """Clothes say who it is, brightness which camera, noise which shot."""
    rng = np.random.default_rng([pid, 7])
    upper, lower = rng.integers(40, 200, (2, 3))
    image = np.full((*SIZE, 3), 90 + 10 * camera, np.int64)
    image[30:75, 10:38] = upper
    image[75:120, 12:36] = lower
    noise = np.random.default_rng([pid, camera, shot]).integers(-20, 20, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """``make_prepared(edit)``: ``edit`` may change each row before the index is written."""
    import torch

    from reid_train.engine.checkpoint import save_model
    from reid_train.models.deployable import build_model

    def make(
        edit: Callable[[ImageRow], ImageRow] = lambda row: row, dataset: str = "little"
    ) -> Prepared:
        root = tmp_path_factory.mktemp("evaluation")
        folders = {name: root / name for name in ("files", "index", "images", "model")}
        for folder in folders.values():
            folder.mkdir()
        rows = []
        for pid in range(PEOPLE):
            for camera in range(CAMERAS):
                for shot in range(2):
                    split = "query" if camera == 0 and shot == 0 else "gallery"
                    path = f"{pid}_c{camera}_{shot}.png"
                    Image.fromarray(picture(pid, camera, shot)).save(folders["files"] / path)
                    digest = hashlib.sha256((folders["files"] / path).read_bytes()).hexdigest()
                    row = ImageRow(
                        path, path, split, pid, camera, None, "", None, SIZE[1], SIZE[0], digest
                    )
                    rows.append(edit(row))
        write_index(folders["index"], Index(dataset, folders["files"], rows))
        params = {"size": list(SIZE), "filter": "bilinear"}
        pack(Job(folders["images"], params, {"index": folders["index"]}, root))
        spec = {"trunk": "bignet", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": list(SIZE)}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build_model(spec)
        meta = {"model": spec, "recipe": {"name": "bignet"}, "seed": 3, "dataset": "little"}
        save_model(folders["model"], model, meta)
        return Prepared(folders["index"], folders["images"], folders["model"], root)

    return make


@pytest.fixture(scope="session")
def prepared(make_prepared: Callable[..., Prepared]) -> Prepared:
    """5 people x 3 cameras x 2 shots; the first shot of camera 0 is the query."""
    return make_prepared()
