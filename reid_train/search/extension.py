"""Images into a gallery: which of a folder's are new or changed, and the rows with those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.runs import Run, list_runs
from pipeline.artifacts.store import Workspace, versions
from pipeline.images.pixels import DamagedImage
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.image_files import damaged_files
from reid_train.search.encoder import Encoder
from reid_train.search.gallery import (
    ROWS,
    About,
    Gallery,
    Source,
    Threshold,
    is_gallery,
    open_gallery,
    write_gallery,
)


@dataclass(frozen=True)
class Extension:
    """What an image folder has that a gallery lacks.

    gallery: None where there is none yet. names: name -> path of the images to compute, new or
    changed. files: name -> source of every image of the folder that could be read.
    """

    gallery: Gallery | None
    names: dict[str, Path]
    files: dict[str, Source]


def find_extension(folder: Path, paths: Sequence[Path], gallery: Gallery | None) -> Extension:
    """Compare images below ``folder`` with those of a gallery, by name and SHA-256.

    Raises ReidpipeError where another folder has another image of the same name, and for a gallery
    with identities, which images of a folder lack.
    """
    known = {} if gallery is None or gallery.about is None else gallery.about.files
    there = set() if gallery is None else set(gallery.names)
    root = str(folder.absolute())
    names: dict[str, Path] = {}
    files: dict[str, Source] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            files[name] = Source(folder=root, sha256=sha256_file(path))
        except FileNotFoundError:  # a link to nothing: told with the damaged images
            names[name] = path
            continue
        before = known.get(name) if name in there else None
        if before is not None and before.sha256 == files[name].sha256:
            continue
        if before is not None and before.folder != root and Path(before.folder, name).is_file():
            raise ReidpipeError(
                f"found another image {name} in {before.folder}, of which the gallery has features "
                "already; expected new names; type another --out, or rename one"
            )
        names[name] = path
    if names and gallery is not None and not (gallery.pids is None and gallery.camids is None):
        raise ReidpipeError(
            f"found a gallery with identities or cameras and {len(names)} new images without; "
            "expected a gallery of plain images; type another --out"
        )
    return Extension(gallery, names, files)


def extend(
    folder: Path,
    extension: Extension,
    encode: Encoder,
    *,
    model_key: str,
    flip: bool,
    threshold: Threshold | None,
) -> tuple[Gallery, dict[str, str]]:
    """Compute what is missing and write the gallery ``folder``; path -> damage of images left out.

    Images there keep their rows; changed ones get new features in theirs, new ones follow. A
    changed image that is damaged now leaves, for its features are of another. Raises DamagedImage
    when nothing would be in the gallery.
    """
    old = extension.gallery
    features, fresh, damaged = _computed(encode, extension)
    before = [] if old is None else old.names
    names = [name for name in before if name in fresh or name not in extension.names]
    if not names and not fresh:
        raise DamagedImage(next(iter(damaged.values())))
    names += [name for name in fresh if name not in set(before)]
    # A row of the gallery that was, or one of the new features behind it.
    places = {name: row for row, name in enumerate(before)}
    places |= {name: len(before) + row for row, name in enumerate(fresh)}
    rows = np.array([places[name] for name in names])
    about = described(
        extension, names, model_key=model_key, flip=flip, threshold=threshold
    )
    write_gallery(folder, about, _rows(old, features, rows))
    return open_gallery(folder), damaged


def described(
    extension: Extension,
    names: Sequence[str],
    *,
    model_key: str,
    flip: bool,
    threshold: Threshold | None,
) -> About:
    """What ``gallery.json`` says after an extension; what it already says stays where it holds."""
    old = None if extension.gallery is None else extension.gallery.about
    files = ({} if old is None else old.files) | extension.files
    return About(
        names=list(names),
        model_key=model_key,
        flip=flip,
        normalise=True,
        pids=None if old is None else old.pids,
        camids=None if old is None else old.camids,
        threshold=threshold or (None if old is None else old.threshold),
        versions=versions(),
        files={name: files[name] for name in names if name in files},
    )


def _computed(
    encode: Encoder, extension: Extension
) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Features of the images to compute, the names of those that could be read, and damage."""
    called = {path: name for name, path in extension.names.items()}
    try:
        features, kept, damaged = encode(list(called))
    except DamagedImage:
        if extension.gallery is None:
            raise
        return extension.gallery.features[:0], [], damaged_files(list(called))
    return features, [called[path] for path in kept], damaged


def _rows(old: Gallery | None, features: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    first = 0 if old is None else len(old)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        block = np.empty((len(part), features.shape[1]), np.float32)
        new = part >= first
        block[new] = features[part[new] - first]
        if old is not None:
            block[~new] = old.features[part[~new]]
        yield block


def gallery_to_extend(
    workspace: Workspace, folder: Path, run: Run, flip: bool
) -> Gallery | None:
    """The gallery in ``folder``, None where there is none yet. Raises ReidpipeError when it is of
    another model than the run's, or its features are of the other kind of ``flip``.
    """
    if not is_gallery(folder):
        return None
    gallery = open_gallery(folder)
    assert gallery.about is not None
    check_model(workspace, gallery, folder, run)
    if gallery.about.flip != flip:
        words = {True: "with", False: "without"}
        raise ReidpipeError(
            f"found features {words[not flip]} the mirrored images' in {folder}; expected them "
            f"{words[flip]}, as asked for; type another --out, or "
            f"{'leave out --flip' if flip else 'add --flip'}"
        )
    return gallery


def check_model(workspace: Workspace, gallery: Gallery, folder: Path, run: Run) -> None:
    """Raise ReidpipeError unless a gallery's features are by the model of ``run``."""
    assert gallery.about is not None
    key = gallery.about.model_key
    if key != run.model.key:
        names = [other.name for other in list_runs(workspace) if other.model.key == key]
        whose = f"run '{names[0]}'" if names else f"another model ({key[:12]})"
        raise ReidpipeError(
            f"found features by {whose} in {folder}; expected those of run '{run.name}' "
            f"({run.model.key[:12]}); type reidpipe embed {run.name} DIR --out ANOTHER"
        )
