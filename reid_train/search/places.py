"""Where a search looks and what for: galleries, folders, tables, files and datasets, by name."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.runs import Run
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import read_index
from pipeline.datasets.sources import index_step
from pipeline.images.originals import DamagedImage, check_originals
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.search.encoder import Encoder, Making, making
from reid_train.search.extension import Extension, about_images
from reid_train.search.gallery import Gallery, check_model, is_gallery, open_gallery
from reid_train.search.matches import Files, Query
from reid_train.search.people import TABLES, Images, images_at, images_of_rows
from reid_train.search.threshold import Calibrated, newest_calibration


def images_named(
    terminal: Terminal,
    place: Path,
    *,
    rule: str | None,
    split: str,
    or_all: bool = True,
    known: bool = True,
) -> Images:
    """The images of a folder, file or table, or of a split of the dataset called ``place``.

    known: whether anything is said of people and cameras. Raises as ``images_at`` and
    ``images_of_rows``, and for a dataset that is not prepared.
    """
    if place.exists() or not _is_dataset(place):
        images = images_at(place, rule=rule, known=known)
    else:
        step = index_step(terminal.workspace, str(place), make=terminal.make)
        terminal.make(step)
        index = read_index(terminal.workspace.folder(step))
        images = images_of_rows(
            index.root, index.rows, split=split, dataset=str(place), or_all=or_all
        )
        check_originals(index.original(row) for row in index.rows if row.path in images.paths)
    return images if known else replace(images, people={}, cameras={}, known=False)


def _is_dataset(place: Path) -> bool:
    try:
        load_manifest(str(place))
    except ReidpipeError:
        return False
    return True


def _has_rule(place: Path) -> bool:
    """Whether a rule for file names is asked who is on the images at ``place``: tables and prepared
    datasets say so themselves.
    """
    if place.exists():
        return not (place.is_file() and place.suffix.lower() in TABLES)
    return not _is_dataset(place)


def check_embedded(place: Path, *, rule: str | None, split: str | None, known: bool) -> None:
    """Raise ReidpipeError for what was typed and would do nothing to the images at ``place``."""
    if split is not None and place.exists():
        raise ReidpipeError(
            f"found --split {split} for {place}; expected the name of a prepared dataset; leave "
            "it out"
        )
    if rule is not None and not known:
        raise ReidpipeError(
            "found --rule beside --no-identities; expected one of them; leave the other out"
        )
    if rule is not None and not _has_rule(place):
        raise ReidpipeError(
            f"found --rule for {place}; expected file names that name people; leave it out"
        )


def check_searched(queries: Sequence[Path], gallery: Path, rule: str | None) -> None:
    """Raise ReidpipeError for a rule that none of the places is asked by."""
    images = [*queries] if is_gallery(gallery) else [*queries, gallery]
    if rule is not None and not any(map(_has_rule, images)):
        raise ReidpipeError(
            "found --rule, and tables, galleries or datasets that say themselves who is on their "
            "images; expected a folder or image; leave it out"
        )


def queries_at(terminal: Terminal, run: Run, place: Path, rule: str | None) -> Images:
    """The images to search for: of a dataset its queries."""
    if not place.exists() and not _is_dataset(place):
        raise ReidpipeError(
            f"found no file {place}; expected the image of one person, or a folder or table of "
            f"them; type reidpipe search {run.name} IMAGE DIR"
        )
    return images_named(terminal, place, rule=rule, split="query")


def encoded_queries(
    encode: Encoder, typed: Sequence[Path], asked: Sequence[Images]
) -> tuple[list[Query], dict[str, str]]:
    """Every query that can be read; path -> damage of those of folders and tables that cannot.
    Raises DamagedImage for a file that was typed, and where none can be read.
    """
    paths = list(dict.fromkeys(path for images in asked for path in images.paths.values()))
    features, kept, damaged = encode(paths)
    for path in typed:
        if str(path) in damaged:
            raise DamagedImage(damaged[str(path)])
    rows = dict(zip(kept, features, strict=True))
    queries = [
        Query(path, rows[path], images.people.get(name), images.cameras.get(name))
        for images in asked
        for name, path in images.paths.items()
        if path in rows
    ]
    return queries, damaged


@dataclass(frozen=True)
class Place:
    """A gallery, or images in place of one, and how their features are made and told apart."""

    gallery: Gallery | None
    images: Images | None
    how: Making
    calibrated: Calibrated

    def files(self, called: Container[str]) -> Iterator[Path]:
        """The image files of these names, as far as a gallery says where they were."""
        if self.images is not None:
            yield from (path for path in self.images.paths.values() if path.name in called)
        elif self.gallery is not None and self.gallery.about is not None:
            about = self.gallery.about
            places = [n for n, name in enumerate(about.names) if name.rpartition("/")[2] in called]
            yield from map(about.path, places)

    def opened(self, encode: Encoder) -> tuple[Gallery, Files, dict[str, str]]:
        """The gallery, where its images are, and path -> damage of images that are left out."""
        if self.gallery is not None and self.gallery.about is not None:
            about = self.gallery.about
            return self.gallery, Files(about.names, about.path, about.sha256), {}
        assert self.images is not None
        names = {path: name for name, path in self.images.paths.items()}
        features, kept, damaged = encode(list(names))
        there = [names[path] for path in kept]
        extension = Extension(self.images, None, there, {})
        about = about_images(there, extension, self.how, Calibrated(), renewed=True)
        return Gallery.of(about, features), Files(there, kept.__getitem__), damaged


def place_to_search(
    terminal: Terminal, run: Run, place: Path, *, flip: bool, rule: str | None
) -> Place:
    """What GALLERY means: a stored gallery by the run's model, with its own calibration if it has
    one, else images. Raises ReidpipeError for a gallery of other features, and as ``images_named``.
    """
    how = making(run, flip)
    if not is_gallery(place):
        images = images_named(terminal, place, rule=rule, split="gallery")
        return Place(None, images, how, newest_calibration(terminal.workspace, how))
    gallery = open_gallery(place)
    about = check_model(terminal.workspace, run, place, gallery)
    if how.flip and not about.flip:
        raise ReidpipeError(
            f"found features without the mirrored images' in {place}; expected no --flip; "
            "leave it out, or type another GALLERY"
        )
    how = replace(how, flip=about.flip)
    own = Calibrated(about.threshold, about.calibration)
    known = own.threshold is not None
    return Place(gallery, None, how, own if known else newest_calibration(terminal.workspace, how))
