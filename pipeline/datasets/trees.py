"""Manifests: which trees are accepted, and where the images of each split lie in one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.datasets.entries import AtLeastOne, ImageTemplate, Inside, LabelTemplate, Part


class Source(Part):
    """Where the images of one split are.

    folder: relative to the root, read recursively in sorted order. list: a text file naming the
    images instead; each line must match ``line`` (groups ``path`` and optionally ``pid``) and
    becomes the first existing file among the templates ``images`` (field ``{path}``).
    labels: template of the label map, field ``{stem}``. rule: in place of the layout's.
    camid: for splits whose names carry no camera. pid_from: where the identity is written.
    depth: 1 reads the folder itself only. identities: files that list the identities which take
    part, without ending: the text file (numbers with commas), else the MATLAB one (array ``id``).
    """

    split: Literal["train", "query", "gallery", "val", "pool"]
    folder: Inside = "."
    list: Inside | None = None
    line: str = r"^(?P<path>\S+)(?:\s+(?P<pid>\d+))?$"
    images: tuple[ImageTemplate, ...] = ()
    labels: LabelTemplate | None = None
    rule: str | None = None
    camid: int | None = None
    pid_from: Literal["name", "folder", "list", "none"] = "name"
    depth: AtLeastOne | None = None
    optional: bool = False
    identities: tuple[Inside, ...] = Field(default=(), exclude_if=lambda names: names == ())


class Layout(Part):
    """One accepted tree: ``requires`` must exist below the root.

    spread: the required folders may lie apart, up to three levels below the root (original
    archives unpack into doubled folders). rule: regular expression on file names (never on
    paths); its groups pid, camid, view, frame and any others feed the manifest's templates.
    membership: list files (inside the root or beside it) that protocols select by.
    viewpoints: optional files that give a view per image. tracks: optional files of which the first
    that is there gives the track of each gallery image. pid_offset_in_test: numbers of test
    identities restart at 0. says_variant: trees of several variants look like this one; where
    nobody has typed the folder, its name must say which variant it is.
    """

    name: str
    requires: tuple[Inside, ...]
    reader: str = "files"
    spread: bool = False
    rule: str | None = None
    sources: tuple[Source, ...] = ()
    membership: tuple[Inside, ...] = ()
    viewpoints: tuple[Inside, ...] = ()
    tracks: tuple[Inside, ...] = Field(default=(), exclude_if=lambda names: names == ())
    pid_offset_in_test: bool = False
    # Not in the dump, whose digest is in the key of the index: the rows do not depend on it.
    says_variant: bool = Field(default=False, exclude=True)
