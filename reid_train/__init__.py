"""Images and label maps to a model, and its evaluation.

Importing this imports nothing else of the project: ``reid_train.__main__`` has yet to say where
the rest is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_train.classify.classifier import load_prompt_classifier
    from reid_train.exchange.importers import load_model
    from reid_train.search.gallery import open_gallery

__all__ = ["load_model", "load_prompt_classifier", "open_gallery"]


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a package whose names are imported when they are asked for. ``homes``:
    name -> its module.
    """

    def found(name: str) -> Any:
        # torch takes seconds to import, numpy a tenth; a command served from the cache asks for
        # neither
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return found


__getattr__ = lazy_names(
    __name__,
    {
        "load_model": "reid_train.exchange.importers",
        "load_prompt_classifier": "reid_train.classify.classifier",
        "open_gallery": "reid_train.search.gallery",
    },
)
