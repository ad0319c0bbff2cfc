"""Images into a gallery: which are new or changed, their features block by block, the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.runs import Run
from pipeline.artifacts.store import Workspace, versions
from pipeline.images.originals import DamagedImage
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.embeddings import GALLERY
from reid_train.evaluation.image_files import damaged_files
from reid_train.models import COSINE
from reid_train.search.about import About
from reid_train.search.encoder import Encoder, Making
from reid_train.search.gallery import Gallery, check_model, read_gallery
from reid_train.search.nearest import ROWS
from reid_train.search.people import Images, Numbers
from reid_train.search.threshold import Calibrated
from reid_train.search.writing import (
    Computed,
    forget_blocks,
    keep_block,
    kept_blocks,
    next_block,
    write_gallery,
)

BLOCK = 512  # images after which their features are kept


@dataclass(frozen=True)
class Extension:
    """What a gallery lacks of some images.

    gallery: None where there is none yet. names: of the images to compute, new or changed. digests:
    name -> SHA-256 of every image that could be read.
    """

    images: Images
    gallery: Gallery | None
    names: list[str]
    digests: dict[str, str]


def find_extension(images: Images, gallery: Gallery | None) -> Extension:
    """Compare images with those of a gallery, by name and SHA-256.

    Raises ReidpipeError where another folder has another image of the same name.
    """
    said = None if gallery is None else gallery.about
    before = {} if said is None else {name: row for row, name in enumerate(said.names)}
    root = str(images.folder.absolute())
    names: list[str] = []
    digests: dict[str, str] = {}
    for name, path in images.paths.items():
        try:
            digests[name] = sha256_file(path)
        except FileNotFoundError:  # a link to nothing: told with the damaged images
            names.append(name)
            continue
        row = before.get(name)
        if row is not None and said is not None and said.sha256 and said.folder:
            if said.sha256[row] == digests[name]:
                continue
            number = said.folder[row]
            other = root if number is None else said.folders[number]
            if other != root and Path(other, name).is_file():
                raise ReidpipeError(
                    f"found another image {name} in {other}, of which the gallery has features "
                    "already; expected new names; type another --out, or rename one"
                )
        names.append(name)
    return Extension(images, gallery, names, digests)


def extend(
    folder: Path,
    extension: Extension,
    encode: Encoder,
    *,
    how: Making,
    calibrated: Calibrated,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Gallery, dict[str, str]]:
    """Compute what is missing and write the gallery ``folder``, which the caller holds, unless
    nothing is new; that gallery, and path -> damage of the images left out.

    Features are kept after every BLOCK images, so that a killed call goes on where it was. Images
    there keep their rows; changed ones get new features in theirs, new ones follow. A changed image
    that is damaged now leaves, for its features are of another. Identities and cameras of these
    images are those of today, where today knows any; none, where nobody is to be known. calibrated:
    an empty one leaves the gallery's own. Raises DamagedImage when nothing would be in the gallery.
    """
    old = extension.gallery
    computed, damaged = _computed(folder, extension, encode, how, tell)
    fresh = computed.places
    before = {name: row for row, name in enumerate([] if old is None else old.names)}
    wanted = set(extension.names)
    names = [name for name in before if name in fresh or name not in wanted]
    names += [name for name in extension.names if name in fresh and name not in before]
    if not names:
        raise DamagedImage(next(iter(damaged.values())))
    about = about_images(names, extension, how, calibrated, renewed=bool(fresh))
    if old is not None and old.about is not None and not fresh:
        # Rows that stay as they are keep their digest.
        kept = {"features_sha256": old.about.features_sha256}
        if about.model_copy(update=kept) == old.about:
            return old, damaged
    write_gallery(folder, about, _rows(names, before, old, computed))
    forget_blocks(folder)
    return read_gallery(folder), damaged


def _computed(
    folder: Path,
    extension: Extension,
    encode: Encoder,
    how: Making,
    tell: Callable[[str], None],
) -> tuple[Computed, dict[str, str]]:
    """Features of the images to compute, and path -> damage of those that could not be read."""
    digests = {name: extension.digests.get(name, "") for name in extension.names}
    kept = kept_blocks(folder, how.stored(), digests)
    left = [name for name in extension.names if name not in kept.places]
    if kept.places:
        tell(f"going on: {len(kept.places)} of {len(extension.names)} images were computed before")
    damaged: dict[str, str] = {}
    number = next_block(folder)
    for start in range(0, len(left), BLOCK):
        names = {extension.images.paths[name]: name for name in left[start : start + BLOCK]}
        try:
            features, paths, broken = encode(list(names))
        except DamagedImage:  # all of them
            damaged |= damaged_files(list(names))
            continue
        damaged |= broken
        done = [names[path] for path in paths]
        keep_block(folder, number, how.stored(), done, [digests[n] for n in done], features)
        number += 1
        if len(left) > BLOCK:
            tell(f"embedded {min(start + BLOCK, len(left))} of {len(left)} images")
    return kept_blocks(folder, how.stored(), digests), damaged


def about_images(
    names: Sequence[str],
    extension: Extension,
    how: Making,
    calibrated: Calibrated,
    *,
    renewed: bool,
) -> About:
    """What a gallery of these names says, from their images and the gallery that was. renewed:
    whether any features are new.
    """
    images = extension.images
    said = None if extension.gallery is None else extension.gallery.about
    before = {} if said is None else {name: row for row, name in enumerate(said.names)}

    def column(values: Sequence | None, given: dict) -> list:
        """Of every name what is given, else what the gallery said."""
        stored = values if values is not None else [None] * len(before)
        return [
            given[name] if name in given else stored[before[name]] if name in before else None
            for name in names
        ]

    forgotten = {} if images.known else dict.fromkeys(images.paths)

    def numbers(stored: Sequence | None, called: dict, given: dict) -> tuple[list, dict]:
        """The column of people or of cameras, and what its numbers are called."""
        every = Numbers(stored or [], called)
        every.add(given.values())
        new = {name: every.numbers[other] for name, other in given.items()}
        values = column(stored, forgotten | new)
        used = {str(value) for value in values}
        return values, {number: name for number, name in every.names.items() if number in used}

    if said is None:
        pids, identities = numbers(None, {}, images.people)
        camids, cameras = numbers(None, {}, images.cameras)
    else:
        pids, identities = numbers(said.pids, said.identities, images.people)
        camids, cameras = numbers(said.camids, said.cameras, images.cameras)
    folders = [] if said is None else list(said.folders)
    root = str(images.folder.absolute())
    if root not in folders:
        folders.append(root)
    ours = dict.fromkeys(extension.digests, folders.index(root))
    folder = column(None if said is None else said.folder, ours)
    sha256 = column(None if said is None else said.sha256, extension.digests)
    newer = calibrated if calibrated.threshold is not None or said is None else said
    return About(
        names=list(names),
        model_key=how.model,
        flip=how.flip,
        distance="cosine" if how.distance == COSINE else "euclidean",
        normalise=how.distance == COSINE,
        pids=None if all(pid is None for pid in pids) else pids,
        camids=None if all(camid is None for camid in camids) else camids,
        identities=identities,
        cameras=cameras,
        threshold=newer.threshold,
        calibration=newer.calibration,
        versions=versions() if said is None or renewed else said.versions,
        folders=folders,
        folder=folder,
        sha256=sha256,
    )


def _rows(
    names: Sequence[str], before: dict[str, int], old: Gallery | None, computed: Computed
) -> Iterator[np.ndarray]:
    for start in range(0, len(names), ROWS):
        part = names[start : start + ROWS]
        new = np.array([name in computed.places for name in part])
        fresh = computed.rows([name for name, is_new in zip(part, new, strict=True) if is_new])
        dimension = fresh.shape[1] if old is None else old.features.shape[1]
        block = np.empty((len(part), dimension), np.float32)
        block[new] = fresh.reshape(-1, dimension)
        if old is not None:
            kept = [before[name] for name, is_new in zip(part, new, strict=True) if not is_new]
            block[~new] = old.features[kept]
        yield block


def gallery_to_extend(workspace: Workspace, run: Run, folder: Path, how: Making) -> Gallery | None:
    """The gallery in ``folder``, None where there is none yet. Raises ReidpipeError when it is of
    another model than the run's, or its features are of the other kind of ``flip``.
    """
    if not (folder / GALLERY).is_file():
        return None
    gallery = read_gallery(folder)
    about = check_model(workspace, run, folder, gallery)
    if about.flip != how.flip:
        found, expected = ("with", "without") if about.flip else ("without", "with")
        raise ReidpipeError(
            f"found features {found} the mirrored images' in {folder}; expected them {expected}, "
            f"as asked for; type {'--flip' if about.flip else 'no --flip'}, or another --out"
        )
    return gallery


def check_same_place(gallery: Gallery, images: Images, target: Path) -> None:
    """Refuse to add images to a gallery that nobody named where it has others: of another folder,
    or of this one, whose files are there and are none of these.
    """
    about = gallery.about
    assert about is not None
    cure = f"type --out {target} to add to them, or another --out"
    others = sorted(set(about.folders) - {str(images.folder.absolute())})
    if others:
        raise ReidpipeError(
            f"found the features of {others[0]} in {target}; expected those of {images.folder}; "
            f"{cure}"
        )
    left = [name for name in gallery.names if name not in images.paths]
    there = [name for name in left if Path(images.folder, name).is_file()]
    if there:
        raise ReidpipeError(
            f"found the features of {len(there)} images more in {target}, such as {there[0]}; "
            f"expected those of the {len(images)} named alone; {cure}"
        )
