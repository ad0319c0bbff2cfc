"""Where a dataset's images are, as a workspace keeps it: ``datasets/<id>.json``, by ``prepare``.

All variants of a dataset share the file; each has an entry of its own, and the one that was
registered last stands for those that have none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.artifacts.locks import Lease, holding
from pipeline.artifacts.mark import read_mark
from pipeline.artifacts.shapes import NUMBER, Each, Maybe, Named, wrong
from pipeline.datasets.catalogue import defined
from pipeline.datasets.check import error_lines, refusal
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.manifest import Manifest
from pipeline.terminal.errors import DamagedFile, ReidpipeError

log = logging.getLogger(__name__)
_ENTRY = {
    "root": Maybe(str), "rule": Maybe(str), "file": Maybe(str),
    "holdout": Maybe({"share": Maybe(NUMBER), "people": Maybe(int), "seed": int}),
    "allowed": Maybe(Each(str)),
}  # fmt: skip
_REGISTERED = _ENTRY | {"variants": Maybe(Named(_ENTRY))}


def folder_of(manifest: Manifest, workspace: Path) -> Path:
    """Where what is fetched and unpacked of a dataset lies."""
    return workspace.absolute() / "datasets" / manifest.dataset.replace(":", "-")


def registered_place(manifest: Manifest, workspace: Path) -> Path | None:
    """The folder, or table, that was registered, which may be gone; None: there was none."""
    text = registration(manifest, workspace).get("root")
    if not text:
        return None
    place = workspace.absolute() / text
    # Earlier versions wrote where the workspace was, which may have been moved since.
    inside = re.search(rf"/(datasets/{manifest.id}(?:-[^/]*)?/files(?:/.*)?)$", text)
    return workspace.absolute() / inside[1] if inside and not place.exists() else place


def is_registered(manifest: Manifest, workspace: Path) -> bool:
    """Whether what is registered is of this variant, and not of another one of the dataset."""
    variants = _stored(manifest, workspace).get("variants") or {}
    return not variants or (manifest.variant or "") in variants


def registered_rule(workspace: Path, manifest: Manifest) -> str | None:
    """The naming rule a person gave for images of their own."""
    return registration(manifest, workspace).get("rule")


def registered_holdout(workspace: Path, manifest: Manifest) -> Holdout | None:
    """The people held out of images of one's own, as they were asked for."""
    return Holdout.from_plain(registration(manifest, workspace).get("holdout"))


def registration(manifest: Manifest, workspace: Path) -> dict[str, Any]:
    """What was registered for this variant, or else for the dataset as a whole."""
    stored = _stored(manifest, workspace)
    variants = stored.get("variants") or {}
    # What was prepared under one name of one's own is not what another name means.
    other = {} if manifest.any_variant and variants else stored
    return variants.get(manifest.variant or "", other)


def register(
    manifest: Manifest, workspace: Path, root: Path, rule: str | None, holdout: Holdout | None
) -> None:
    """Keep a dataset's folder; one inside the workspace by its place there, which may be moved.
    What was let through of the dataset stays so.
    """
    allowed = registration(manifest, workspace).get("allowed")
    top = workspace.absolute()
    place = root.relative_to(top) if root.is_relative_to(top) else root
    entry: dict[str, Any] = {"root": str(place)} | ({"rule": rule} if rule else {})
    if manifest.file is not None:
        entry["file"] = str(Path(manifest.file).expanduser().absolute())
    if holdout is not None:
        entry["holdout"] = holdout.plain()
    if allowed:
        entry["allowed"] = allowed
    _write(manifest, workspace, entry)


def locked(manifest: Manifest, workspace: Path) -> AbstractContextManager[Lease]:
    """The lock of a dataset's registration, which dies with its holder: two commands that fetch
    one would write the same files. It also says of a folder that it is a workspace.
    """
    (workspace / "datasets").mkdir(parents=True, exist_ok=True)
    place = workspace / "datasets" / f"{manifest.id}.lock"
    return holding(place, f"{manifest.id} is being looked for")


def allow(manifest: Manifest, workspace: Path, errors: Sequence[str]) -> None:
    """Let ``errors``, lines about an index of a registered dataset, through from now on."""
    with locked(manifest, workspace):
        entry = registration(manifest, workspace)
        own = {name: value for name, value in entry.items() if name != "variants"}
        _write(manifest, workspace, {**own, "allowed": list(errors)})


def check_allowed(folder: Path, workspace: Path) -> None:
    """Raise ReidpipeError for an index, made in ``folder``, of another dataset than was published,
    unless ``prepare --allow-mismatch`` has let just that through. One's own images, and datasets of
    which no numbers are known, are taken as they are.
    """
    mark = read_mark(folder)
    params, errors = mark["params"], error_lines(mark["summary"])
    if not errors or "fingerprint" not in params:  # generated
        return
    manifest = defined(params["dataset"], params.get("definition"))
    if manifest is None or manifest.is_own or not _has_numbers(manifest):
        return
    entry = registration(manifest, workspace)
    left = [line for line in errors if line not in (entry.get("allowed") or ())]
    if left:
        raise refusal(left, manifest.model_copy(update={"file": entry.get("file")}).typed)


def _has_numbers(manifest: Manifest) -> bool:
    return bool(manifest.counts) or any(protocol.counts for protocol in manifest.protocols)


def _write(manifest: Manifest, workspace: Path, entry: dict[str, Any]) -> None:
    variants = _stored(manifest, workspace).get("variants") or {}
    if manifest.variant:
        variants[manifest.variant] = entry
    stored = entry | ({"variants": variants} if variants else {})
    atomic.write_json(_record(manifest, workspace), stored)


def _record(manifest: Manifest, workspace: Path) -> Path:
    return workspace / "datasets" / f"{manifest.id}.json"


def _stored(manifest: Manifest, workspace: Path) -> dict[str, Any]:
    """What a registration says; nothing when there is none or a power cut left it damaged.

    Raises ReidpipeError where another YAML file that has the same id was registered: the one would
    read the other's images.
    """
    path = _record(manifest, workspace)
    try:
        found = atomic.read_json(path) if path.is_file() else {}
        if why := wrong(found, _REGISTERED):
            raise DamagedFile(f"found {path} with {why}; expected registered folders")
    except DamagedFile as error:
        log.warning("%s; taken as not registered", error)
        return {}
    other = Path(found.get("file") or "")
    if manifest.file is not None and other.is_file():
        own = Path(manifest.file).expanduser()
        if own.read_bytes() != other.read_bytes():
            raise ReidpipeError(
                f"found id '{manifest.id}' in {own}, under which {other} was prepared; expected "
                "another for each; rename one of them"
            )
    return found
