"""Recorded outputs, which lie outside of the project."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType


def shared_folder() -> Path:
    """The folder with ``golden/`` and ``data/``, whether or not it is there."""
    return Path(os.environ.get("REIDPIPE_SHARED", Path(__file__).parents[2] / "shared")).resolve()


def fill_module(golden: Path) -> ModuleType:
    """The module that rebuilds recorded checkpoints: ``fill``, ``image``, ``state_dict``."""
    return module_at(golden / "fill.py")


def module_at(path: Path) -> ModuleType:
    """The module of a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
