"""Other people's evaluators and distances, from a folder of their checkouts: none of their
code is part of the project.

``FOLDER/CLIP-ReID`` is used as it is. ``FOLDER/deep-person-reid`` (torchreid) and
``FOLDER/fast-reid`` are compiled first, with their own ``setup.py`` or Cython's ``cythonize -i
rank_cy.pyx`` in their folder ``rank_cylib``. What is not there is not compared with.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Evaluator = Callable[..., Any]
COMPILED = {
    "torchreid": "deep-person-reid/torchreid/metrics/rank_cylib",
    "fast-reid": "fast-reid/fastreid/evaluation/rank_cylib",
}
CLIP_REID = "CLIP-ReID"


def evaluators(folder: Path) -> dict[str, Evaluator]:
    """By name, each called with distances (Q, G) float32, then identities of queries and gallery,
    then cameras of both, int64.
    """
    found: dict[str, Evaluator] = {}
    if (folder / CLIP_REID).is_dir():
        found["CLIP-ReID's"] = clip_reid(folder).eval_func
    for name, place in COMPILED.items():
        for library in sorted((folder / place).glob("rank_cy*.so")):
            found[f"{name}'s compiled"] = ranked_by(loaded("rank_cy", library))
    return found


def ranked_by(module: ModuleType) -> Evaluator:
    return lambda *arrays: module.evaluate_cy(*arrays, 50)


def from_features(folder: Path) -> Evaluator | None:
    """CLIP-ReID's whole evaluator, called with features and then as ``evaluators``; None without
    it.
    """
    if not (folder / CLIP_REID).is_dir():
        return None
    import torch

    module = clip_reid(folder)

    def evaluate(query: np.ndarray, gallery: np.ndarray, *ids: np.ndarray) -> Any:
        judge = module.R1_mAP_eval(len(query))
        judge.reset()
        sides = ((query, ids[0], ids[2]), (gallery, ids[1], ids[3]))
        with contextlib.redirect_stdout(io.StringIO()):
            for features, pids, camids in sides:
                judge.update((torch.from_numpy(features), pids, camids))
            return judge.compute()[:2]

    return evaluate


def clip_reid(folder: Path) -> ModuleType:
    with first_on_path(folder / CLIP_REID):
        return loaded("clip_reid_metrics", folder / CLIP_REID / "utils" / "metrics.py")


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function(path: Path, name: str) -> Callable[..., Any]:
    """A function of one file that needs no other of its checkout."""
    return getattr(loaded(f"peer_{path.parts[-3]}_{path.stem}", path), name)


def package_function(folder: Path, module: str, name: str) -> Callable[..., Any]:
    """A function of a module that imports others of its package, which lies in ``folder``."""
    with first_on_path(folder):
        return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def first_on_path(folder: Path) -> Iterator[None]:
    """What is imported meanwhile comes from ``folder`` first, and is forgotten by name: every
    checkout has a ``utils`` of its own.
    """
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
