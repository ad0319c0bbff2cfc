"""What is read of an artifact is what was written there: compared with its mark, once per process.

A file is hashed when a process first reads it. A large one is hashed in full once per change and
not once per process: a note in the workspace (``checked/``) says of which file on the disk this was
done, by size, inode, time of modification and time of change. The last one is set by the system
whenever bytes or times are written, and by no program: a replaced file is hashed again, whatever
times it was given. What no system call does, such as a disk that returns other bits, is found by
``reidpipe cache verify`` and with ``--strict``, which believe no note.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts import atomic, shapes
from pipeline.artifacts.mark import MARK, read_mark
from pipeline.terminal.errors import ChangedFile, DamagedFile

NOTES = "checked"
# Bytes from which a note is worth its file: at about 1.4 GB/s, .05 seconds of every process.
NOTED = 64 << 20
# A file that was changed as recently may change again without another time of change.
SETTLED = 2.0
# Depth of the deepest file below its artifact's folder: epochs/0004/model.safetensors.
DEEPEST = 3


class Seen(NamedTuple):
    """Which file on the disk, in which state: ``os.stat``'s size, times in ns and inode."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Seen:
        """Raises OSError where there is no file."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, seen: Seen) -> str:
    """SHA-256 of a file in the state ``seen``: read once per process."""
    del seen
    return atomic.sha256_file(path)


@lru_cache(maxsize=1 << 12)
def _recorded(folder: Path, seen: Seen) -> Mapping[str, Mapping[str, Any]]:
    """The files that the mark of ``folder`` in the state ``seen`` tells of."""
    del seen
    return read_mark(folder)["files"]


def checked(path: Path | str, *, strict: bool = False) -> Path:
    """``path``, a file that is about to be read, if its bytes are those that were recorded when it
    was made: in the mark of the artifact it lies in, or, of weights that lie in none, beside them
    (``weights_sha256``). A file of which nothing is recorded passes.

    strict: whether no note is believed. Raises DamagedFile, which names the file.
    """
    path = Path(path)
    artifact = _artifact_of(path)
    if artifact is None:
        _check_beside(path)
        return path
    try:
        recorded = _recorded(artifact, Seen.of(artifact / MARK))
    except DamagedFile:  # such a mark is none: the artifact is unfinished, and made again
        _check_beside(path)
        return path
    entry = recorded.get(path.relative_to(artifact).as_posix())
    if entry is not None:
        _compare(path, artifact, entry, strict=strict)
    return path


def read_json(path: Path | str) -> Any:
    """The JSON value of a file of an artifact, which is ``checked`` and has the shape that commands
    read (``shapes``). Raises DamagedFile.
    """
    path = checked(path)
    content = atomic.read_json(path)
    if told := shapes.wrong(content, shapes.SHAPES.get(Path(path).name)):
        raise DamagedFile(
            f"found {path} with {told}; expected what was written there; type reidpipe cache "
            "verify --repair, and then the same command again"
        )
    return content


def check_files(folder: Path, *, strict: bool = False) -> None:
    """``checked`` for every file that lies in the folder of a complete artifact itself; strict: for
    those in its folders too. Others, such as kept epochs, are checked when they are read, and the
    images of generated people by their index.

    Raises DamagedFile for the first that was changed or is gone.
    """
    for name, entry in sorted(_recorded(folder, Seen.of(folder / MARK)).items()):
        if strict or "/" not in name:
            _compare(folder / name, folder, entry, strict=strict)


def check_artifact(folder: Path, outside: str = "") -> None:
    """Every file of a complete artifact, whatever is noted, and those that ``outside`` (of its
    ``Kind``) knows of. Raises ReidpipeError for the first that is another.
    """
    check_files(folder, strict=True)
    for error in changed_outside(folder, outside):
        raise error


def changed_outside(folder: Path, outside: str, *, progress: bool = False) -> Iterator[ChangedFile]:
    """An error for each file outside of an artifact that it names and that is another now."""
    if outside:
        module, _, function = outside.partition(":")
        yield from getattr(importlib.import_module(module), function)(folder, progress=progress)


def check_inputs(folders: Iterable[Path]) -> None:
    """``check_files`` of what a step is about to read; a folder without a mark has nothing to be
    compared with.
    """
    for folder in folders:
        if (folder / MARK).is_file():
            check_files(folder)


def _artifact_of(path: Path) -> Path | None:
    """The nearest folder above a file that has a mark, if that is near."""
    near = [folder for _, folder in zip(range(DEEPEST), path.parents, strict=False)]
    return next((folder for folder in near if (folder / MARK).is_file()), None)


def _compare(path: Path, artifact: Path, entry: Mapping[str, Any], *, strict: bool) -> None:
    wanted = str(entry["sha256"])
    expected = f"SHA-256 {wanted[:12]}..."
    try:
        seen = Seen.of(path)
    except FileNotFoundError:
        raise _changed(path, "no file", expected) from None
    if seen.size != entry["size"]:
        raise _changed(path, f"{seen.size} bytes", f"{entry['size']}")
    name = path.relative_to(artifact).as_posix()
    if not has_digest(path, wanted, note=notes_of(artifact), name=name, strict=strict):
        raise _changed(path, "other bytes", expected)


def has_digest(
    path: Path, wanted: str, *, note: Path | None, name: str, strict: bool = False
) -> bool:
    """Whether a file's SHA-256 is ``wanted``. note: a JSON file that says, under ``name``, in which
    state a large file had it; believed, unless ``strict``, and brought up to date.
    """
    seen = Seen.of(path)
    place = note if seen.size >= NOTED else None
    if place is not None and not strict and _noted(place).get(name) == [*seen, wanted]:
        return True
    started = time.time()
    if _digest(path, seen) != wanted:
        return False
    settled = started > seen.changed / 1e9 + SETTLED
    if place is not None and settled and Seen.of(path) == seen:
        # A folder that may only be read is hashed by every process.
        with contextlib.suppress(OSError):
            atomic.write_json(place, {**_noted(place), name: [*seen, wanted]})
    return True


def _changed(path: Path, found: str, expected: str) -> DamagedFile:
    return DamagedFile(
        f"found {found} at {path}; expected {expected}, as when it was made; type reidpipe cache "
        "verify --repair, and then the same command again"
    )


def as_made(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file that was just made, as a mark has them."""
    seen = Seen.of(path)
    return {"size": seen.size, "sha256": _digest(path, seen)}


def _check_beside(path: Path) -> None:
    about = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not about.is_file():
        return
    try:
        told = atomic.read_json(about)
    except DamagedFile:  # its readers say so
        return
    wanted = told.get("weights_sha256") if isinstance(told, Mapping) else None
    if isinstance(wanted, str) and _digest(path, Seen.of(path)) != wanted:
        raise DamagedFile(
            f"found other bytes at {path} than {about.name} beside it tells; expected SHA-256 "
            f"{wanted[:12]}...; put back the file that belongs to it"
        )


def notes_of(artifact: Path) -> Path | None:
    """Where it is noted which files of an artifact were hashed; None for one in no workspace."""
    step, store = artifact.parent, artifact.parent.parent
    if store.name != "artifacts":
        return None
    return store.parent / NOTES / step.name / f"{artifact.name}.json"


def _noted(place: Path) -> dict[str, Any]:
    if place.is_file():
        with contextlib.suppress(DamagedFile, OSError):
            told = atomic.read_json(place)
            return told if isinstance(told, dict) else {}
    return {}


def forget_checks(artifact: Path) -> None:
    """Take away what is noted of an artifact's files."""
    place = notes_of(artifact)
    if place is not None:
        place.unlink(missing_ok=True)
