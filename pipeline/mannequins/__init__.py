"""Generated people with exact label maps, cameras and captions: the default dataset."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.mannequins.dataset import Plan, make, plan, render
    from pipeline.mannequins.drawing import VIEWS, Mannequin, camera_of, draw, sample
    from pipeline.mannequins.identities import Identity, identity
    from pipeline.mannequins.parameters import DEFAULTS, checked

__all__ = [
    "DEFAULTS",
    "VIEWS",
    "Identity",
    "Mannequin",
    "Plan",
    "camera_of",
    "checked",
    "draw",
    "identity",
    "make",
    "plan",
    "render",
    "sample",
]
# Whoever asks for a dataset's key needs its parameters, and nothing that draws.
_IN = {
    **dict.fromkeys(("Plan", "make", "plan", "render"), "dataset"),
    **dict.fromkeys(("VIEWS", "Mannequin", "camera_of", "draw", "sample"), "drawing"),
    **dict.fromkeys(("Identity", "identity"), "identities"),
    **dict.fromkeys(("DEFAULTS", "checked"), "parameters"),
}


def __getattr__(name: str) -> Any:
    if name not in _IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_IN[name]}"), name)
