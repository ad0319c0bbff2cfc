"""A dataset's id -> the step that makes its index: images on disk, or generated people."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts import requests
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.manifest import load_manifest

GENERATED = "mannequins"


def index_step(workspace: Workspace, dataset: str, **generated: Any) -> Step:
    """The index step of ``id`` or ``id:variant`` as it stands now.

    Images on disk are looked up where ``prepare`` registered them or in the usual places, and
    enter the key by a fingerprint of the tree. ``generated`` overrides parameters of generated
    datasets (see ``pipeline.mannequins.DEFAULTS``). Raises ReidpipeError for unknown ids and for
    images that are nowhere.
    """
    manifest = load_manifest(dataset)
    if manifest.id == GENERATED:
        from pipeline.mannequins import DEFAULTS, checked

        params = {**DEFAULTS, **manifest.generated, "dataset": manifest.dataset, **generated}
        return _index("pipeline.mannequins:render", checked(params))
    from pipeline.datasets.work import index_params

    return _index("pipeline.datasets.work:index", index_params(workspace.root, dataset))


def _index(worker: str, params: dict[str, Any]) -> Step:
    others = {name: value for name, value in params.items() if name != "dataset"}
    return requests.index(params["dataset"], worker=worker, params=others)
