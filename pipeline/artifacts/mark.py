"""The mark of a complete artifact, ``artifact.json``: written last, believed only when it is whole.

Everything in a workspace may have been damaged or written by somebody else: what a mark says of
files is taken for files of its own folder alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.artifacts.atomic import meant, read_json, sha256_file
from pipeline.artifacts.shapes import SUMMARIES
from pipeline.artifacts.shapes import wrong as departs
from pipeline.terminal.errors import DamagedFile

MARK = "artifact.json"
# What was printed while it was made (``attempts``): beside the result, no part of it.
STEP_LOG = "step.log"
# What commands read of a mark, and its type; one that lacks them is as good as none.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "params": dict,
    "inputs": dict,
    "summary": dict,
    "started": str,
    "seconds": (int, float),
    "files": dict,
}


def read_mark(folder: Path) -> dict[str, Any]:
    """The content of an artifact's mark. Raises DamagedFile for one that is not as the store writes
    it: another shape, or files outside the folder.
    """
    path = folder / MARK
    content = read_json(path)
    wrong = _wrong(content)
    if not wrong and (text := departs(content["summary"], SUMMARIES.get(folder.parent.name))):
        wrong = f"with summary: {text}"
    if wrong:
        raise DamagedFile(
            f"found {path} {wrong}; expected what the artifact's step wrote; type reidpipe cache "
            "verify --repair"
        )
    return content


def mark_of(folder: Path) -> dict[str, Any] | None:
    """``read_mark``; None where there is none that can be read."""
    if not (folder / MARK).is_file():
        return None
    try:
        return read_mark(folder)
    except (DamagedFile, FileNotFoundError):
        return None


def is_marked(folder: Path) -> bool:
    """Whether a folder has a mark that can be read."""
    return mark_of(folder) is not None


def _wrong(content: Any) -> str:
    if not isinstance(content, dict):
        return "that is no mapping"
    for name, kind in _FIELDS.items():
        if not isinstance(content.get(name), kind):
            return f"with no usable '{name}'"
    for name, entry in content["files"].items():
        if not _is_inside(name):
            return f"that names {name!r}, a file of no artifact,"
        if not isinstance(entry, Mapping) or not {"size", "sha256"} <= entry.keys():
            return f"that tells nothing of {name!r}"
    return ""


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def leads_out(folder: Path, name: str) -> bool:
    """Whether a file of an artifact would, through a linked folder, be a file somewhere else."""
    return not (folder / name).parent.resolve().is_relative_to(folder.resolve())


def files_of(folder: Path) -> list[Path]:
    """The files of an artifact, without its mark, the log of its making and links, which it does
    not make.
    """
    found = []
    for place, _, names in os.walk(folder):
        found += [Path(place, name) for name in names]
    return [
        path
        for path in sorted(found)
        if path.is_file()
        and not path.is_symlink()
        and path not in (folder / MARK, folder / STEP_LOG)
    ]


def described(path: Path) -> dict[str, Any] | None:
    """Size and SHA-256 of a file, as a mark has them; None where there is none."""
    if not path.is_file():
        return None
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}


def drop_temporary(folder: Path) -> None:
    """Delete what a killed process has left half written in an artifact that nobody is making."""
    for path in files_of(folder):
        if meant(path.name) is not None:
            path.unlink()
