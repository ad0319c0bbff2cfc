"""Images into a gallery: which of a folder's are new or changed, and the rows with those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.runs import Run
from pipeline.artifacts.store import Workspace, versions
from pipeline.images.pixels import DamagedImage
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.image_files import damaged_files
from reid_train.models import COSINE, Distance
from reid_train.search.about import About, Source, Threshold
from reid_train.search.encoder import Encoder
from reid_train.search.gallery import (
    ROWS,
    Gallery,
    is_gallery,
    open_gallery,
    open_gallery_of,
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
    distance: Distance = COSINE,
) -> tuple[Gallery, dict[str, str]]:
    """Compute what is missing and write the gallery ``folder``, unless nothing is new; that
    gallery, and path -> damage of the images left out.

    Images there keep their rows; changed ones get new features in theirs, new ones follow. A
    changed image that is damaged now leaves, for its features are of another. threshold: None
    leaves the gallery's own. distance: of the model. Raises DamagedImage when nothing would be in
    the gallery.
    """
    old = extension.gallery
    features, kept, damaged = _computed(encode, extension)
    fresh = {name: row for row, name in enumerate(kept)}
    before = {name: row for row, name in enumerate([] if old is None else old.names)}
    names = [name for name in before if name in fresh or name not in extension.names]
    names += [name for name in fresh if name not in before]
    if not names:
        raise DamagedImage(next(iter(damaged.values())))
    said = None if old is None else old.about
    files = ({} if said is None else said.files) | extension.files
    about = About(
        names=names,
        model_key=model_key,
        flip=flip,
        distance=distance,
        normalise=distance == COSINE,
        pids=None if said is None else said.pids,
        camids=None if said is None else said.camids,
        threshold=threshold or (None if said is None else said.threshold),
        versions=versions() if said is None or fresh else said.versions,
        files={name: files[name] for name in names if name in files},
    )
    if old is not None and about == said and not fresh:
        return old, damaged
    # A row of the gallery that was, or one of the new features behind it.
    rows = np.array([len(before) + fresh[n] if n in fresh else before[n] for n in names])
    write_gallery(folder, about, _rows(old, features, rows))
    return open_gallery(folder), damaged


def _computed(
    encode: Encoder, extension: Extension
) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Features of the images to compute, the names of those that could be read, and damage."""
    called = {path: name for name, path in extension.names.items()}
    old = extension.gallery
    try:
        if called or old is None:
            features, kept, damaged = encode(list(called))
            return features, [called[path] for path in kept], damaged
    except DamagedImage:
        if old is None:
            raise
    return old.features[:0], [], damaged_files(list(called))


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


def gallery_to_extend(workspace: Workspace, run: Run, folder: Path, flip: bool) -> Gallery | None:
    """The gallery in ``folder``, None where there is none yet. Raises ReidpipeError when it is of
    another model than the run's, or its features are of the other kind of ``flip``.
    """
    if not is_gallery(folder):
        return None
    gallery, about = open_gallery_of(workspace, run, folder)
    if about.flip != flip:
        found, expected = ("with", "without") if about.flip else ("without", "with")
        raise ReidpipeError(
            f"found features {found} the mirrored images' in {folder}; expected them {expected}, "
            f"as asked for; type {'--flip' if about.flip else 'no --flip'}, or another --out"
        )
    return gallery


def check_folder(gallery: Gallery, folder: Path, target: Path) -> None:
    """Refuse to add to a gallery that nobody named the images of another folder of that name."""
    files = {} if gallery.about is None else gallery.about.files
    others = sorted({source.folder for source in files.values()} - {str(folder.absolute())})
    if others:
        raise ReidpipeError(
            f"found the features of {others[0]} in {target}; expected those of {folder}; "
            f"type --out {target} to add to them, or another --out"
        )
