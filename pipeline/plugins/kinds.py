"""The kinds of things a plugin may add, and where the package's own names of each kind stand."""

from __future__ import annotations

import importlib
from typing import Any

# Kind of thing -> where the package's own names of that kind stand.
KINDS = {
    "trunk": "reid_train.models:TRUNKS",
    "head": "reid_train.models:HEADS",
    "loss": "reid_train.losses:LOSSES",
    "sampler": "reid_train.data:SAMPLERS",
    "schedule": "reid_train.engine:SCHEDULES",
    "hook": "reid_train.hooks:HOOKS",
    "parser": "parsing_models.parsers.catalogue:CATALOGUE",
    "layout": "pipeline.datasets.readers:READERS",
    "importer": "reid_train.exchange.formats:FORMATS",
}


def resolve(place: str) -> Any:
    """The object at ``"module:name"``, imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
