"""Generated people with exact label maps, cameras and captions: the default dataset."""

from pipeline.mannequins.dataset import DEFAULTS, Plan, checked, make, plan, render
from pipeline.mannequins.drawing import VIEWS, Mannequin, camera_of, draw, sample
from pipeline.mannequins.identities import Identity, identity

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
