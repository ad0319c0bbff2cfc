"""The published weights that steps of recipes load, had before any of them is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.steps import Step
from reid_train.models import is_tag
from reid_train.models.bringing import NONE
from reid_train.models.bringing import bring as bring_start

# The architecture of each image tower of CLIP that has published weights.
CLIPS = {"clip-vit-b16": "ViT-B-16", "clip-rn50": "RN50"}
TEACHER = "--set model.teacher.pretrained=none"


def bring(steps: Sequence[Step], folder: Path) -> None:
    """Have what ``steps`` (features, prompts, text, model) start from in ``folder`` or where its
    library keeps it, each file once. Raises ReidpipeError when one cannot be had.
    """
    loading = [step for step in steps if is_published(step.params.get("pretrained"))]
    models = [step for step in loading if step.name == "model"]
    taught = any(step.params["recipe"]["model"]["trunk"] not in CLIPS for step in models)
    needed: dict[tuple[str, str], str] = {}
    for step in loading:
        # A text side in front of another network is its teacher's.
        instead = TEACHER if taught and step.name != "model" else NONE
        needed.setdefault((step.params["pretrained"], _network(step)), instead)
    for (name, network), instead in needed.items():
        bring_start(name, network, folder, instead=instead)
        if name == "imagenet" and network.startswith("timm/"):
            _make(next(s for s in models if _network(s) == network), folder)


def is_published(pretrained: str | None) -> bool:
    """Whether a step's start is a file that somebody published and a user need not have."""
    return pretrained is not None and (pretrained in ("openai", "imagenet") or is_tag(pretrained))


def _network(step: Step) -> str:
    """The CLIP's architecture of what a step loads, or the trunk of another kind."""
    params = step.params
    if "text" in params:
        return params["text"]["architecture"]
    model: Mapping[str, Any] = params["recipe"]["model"] if "recipe" in params else params["model"]
    trunk = model["trunk"]
    return model["options"].get("architecture", CLIPS.get(trunk, trunk))


def _make(step: Step, folder: Path) -> None:
    """timm has no way to its files but the network that they are of."""
    from reid_train.models.deployable import build_model
    from reid_train.recipe.assembly import model_spec
    from reid_train.recipe.loading import from_plain
    from reid_train.recipe.making import fresh

    spec = model_spec(from_plain(step.params["recipe"]))
    fresh(0, lambda: build_model(spec, pretrained="imagenet", weights=folder))
