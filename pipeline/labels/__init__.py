"""Label sets, the cache of label maps, and their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.labels.sets import LabelSet

if TYPE_CHECKING:
    from pipeline.labels.maps import LabelMapReader

__all__ = ["LabelMapReader", "LabelSet"]


def __getattr__(name: str) -> Any:
    # h5py takes a while to import, and most of those who name a label set read no map.
    if name == "LabelMapReader":
        from pipeline.labels.maps import LabelMapReader

        return LabelMapReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
