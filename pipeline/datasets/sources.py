"""A dataset's id -> the step that makes its index: images on disk, or generated people."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.artifacts import graph, requests
from pipeline.artifacts.executors.threads import cores_allowed
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.datasets.catalogue import definition, load_manifest
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.standing import REVISION, standing
from pipeline.images.decoding import decoding_params

GENERATED = "mannequins"


def index_step(
    workspace: Workspace,
    dataset: str,
    *,
    root: Path | None = None,
    make: Callable[[Step], object] | None = None,
    as_it_is: bool = False,
    **generated: Any,
) -> Step:
    """The index step of ``id`` or ``id:variant`` as it stands now.

    Images on disk are looked up where ``prepare`` registered them or in the usual places, and
    enter the key by a fingerprint of the tree, or by that of the tree they are a copy of
    (``standing``), which ``make`` is for: it makes a step, as a command says how; None: with all
    cores. ``root``: the folder or table itself, for images of one's own that are not registered.
    as_it_is: also of another dataset than was published, which nobody has let through.
    ``generated`` overrides parameters of generated datasets (see ``pipeline.mannequins.DEFAULTS``).
    Raises ReidpipeError for unknown ids and for images that are nowhere, and for an index, where it
    is made already, that ``check_allowed`` refuses; of one that is not, nothing else is made then.
    """
    manifest = load_manifest(dataset)
    if manifest.id == GENERATED:
        from pipeline.mannequins.parameters import DEFAULTS, checked

        params = checked(
            {**DEFAULTS, **manifest.generated, "dataset": manifest.dataset, **generated}
        )
    else:
        params = index_params(workspace.root, dataset, root)
    name = params.pop("dataset")
    step = requests.index(name, params, readers=[layout.reader for layout in manifest.layouts])
    if manifest.id == GENERATED:
        return step
    step = standing(workspace, step, make or partial(_made, workspace))
    if not as_it_is and workspace.complete(step):
        from pipeline.datasets.registration import check_allowed

        check_allowed(workspace.folder(step), workspace.root)
    return step


def _made(workspace: Workspace, step: Step) -> None:
    graph.run(workspace, [step], Execution(workers=cores_allowed()))


def index_params(workspace: Path, dataset: str, root: Path | None = None) -> dict[str, Any]:
    """Parameters of the index step: a changed file, manifest, rule or list gives another key.
    root: as of ``index_step``.
    """
    # What reads trees of images, which generated people are not.
    from pipeline.datasets.annotations import draws_annotations, names_annotations
    from pipeline.datasets.fingerprints import fingerprint, fingerprints
    from pipeline.datasets.registration import registered_holdout, registered_rule
    from pipeline.datasets.roots import lists_folder, registered_root

    manifest = load_manifest(dataset)
    own = definition(manifest)
    typed = root is not None
    root = root.absolute() if root is not None else registered_root(workspace, dataset)
    rule = None if typed else registered_rule(workspace, manifest)
    holdout = None if typed else registered_holdout(workspace, manifest)
    lists = lists_folder(manifest, workspace)
    return {
        "dataset": manifest.dataset if own or manifest.is_own else manifest.keyed,
        # Earlier versions read an identity 1_12 as 112.
        **({"definition": own, REVISION: "digits"} if own else {}),
        **decoding_params(manifest.decoding),
        "root": str(root),
        "manifest": hashlib.sha256(manifest.model_dump_json().encode()).hexdigest(),
        **fingerprints(manifest, root, workspace=workspace),
        **({"suffixes": "plain"} if _rewritten_suffixes(manifest, root) else {}),
        **({"annotations": "digested"} if names_annotations(manifest, root) else {}),
        # Earlier versions named them by where the workspace was.
        **({"drawn": "inside"} if draws_annotations(manifest) else {}),
        "rule": rule,
        **({"holdout": holdout.plain()} if holdout else {}),
        "lists": str(lists) if lists else None,
        "lists_fingerprint": fingerprint(lists) if lists else None,
    }


def _rewritten_suffixes(manifest: Manifest, root: Path) -> bool:
    """Whether images are read by ``plain_name``, which earlier versions left out of the index."""
    from pipeline.datasets.layouts.rows import plain_name, walk_files

    rules = [layout.rule or source.rule for layout in manifest.layouts for source in layout.sources]
    return any(rules) and any(plain_name(entry.name) != entry.name for _, entry in walk_files(root))
