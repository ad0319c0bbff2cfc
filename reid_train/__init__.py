"""Images and label maps to a model, and its evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_train.importers import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; a command served from the cache never asks for it
    if name == "load_model":
        from reid_train.importers import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
