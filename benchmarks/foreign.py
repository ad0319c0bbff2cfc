"""Functions out of other people's checkouts, which are measured beside ours and never shipped."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def function(path: Path, name: str) -> Callable[..., Any]:
    """A function of one file that needs no other of its checkout."""
    spec = spec_from_file_location(f"peer_{path.parts[-3]}_{path.stem}", path)
    assert spec is not None and spec.loader is not None, path
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def package_function(folder: Path, module: str, name: str) -> Callable[..., Any]:
    """A function of a module that imports others of its package, which lies in ``folder``."""
    sys.path.insert(0, str(folder))
    try:
        return getattr(importlib.import_module(module), name)
    finally:
        sys.path.remove(str(folder))
