"""Where a dataset's images are, as a workspace keeps it: ``datasets/<id>.json``, by ``prepare``.

All variants of a dataset share the file; each has an entry of its own, and the one that was
registered last stands for those that have none.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.artifacts.shapes import NUMBER, Maybe, Named, wrong
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.manifest import Manifest
from pipeline.terminal.errors import DamagedFile, ReidpipeError

log = logging.getLogger(__name__)
_ENTRY = {
    "root": Maybe(str), "rule": Maybe(str), "file": Maybe(str),
    "holdout": Maybe({"share": Maybe(NUMBER), "people": Maybe(int), "seed": int}),
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
    """Keep a dataset's folder; one inside the workspace by its place there, which may be moved."""
    variants = _stored(manifest, workspace).get("variants") or {}
    top = workspace.absolute()
    place = root.relative_to(top) if root.is_relative_to(top) else root
    entry: dict[str, Any] = {"root": str(place)} | ({"rule": rule} if rule else {})
    if manifest.file is not None:
        entry["file"] = str(Path(manifest.file).expanduser().absolute())
    if holdout is not None:
        entry["holdout"] = holdout.plain()
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
