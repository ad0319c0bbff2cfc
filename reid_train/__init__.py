"""Images and label maps to a model, and its evaluation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_train.classify.classifier import load_prompt_classifier
    from reid_train.exchange.importers import load_model
    from reid_train.search.gallery import open_gallery

__all__ = ["load_model", "load_prompt_classifier", "open_gallery"]

_HOMES = {
    "load_model": "reid_train.exchange.importers",
    "load_prompt_classifier": "reid_train.classify.classifier",
    "open_gallery": "reid_train.search.gallery",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; a command served from the cache never asks for it
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
