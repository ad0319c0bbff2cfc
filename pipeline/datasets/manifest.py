"""Manifests: what is known about a dataset, as data. Schema, loading, validation.

A manifest is one YAML file of ``data_manifests``. A dataset with variants is addressed as
``id:variant`` (``msmt17:v2``); a variant is a set of fields laid over the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.datasets.entries import (
    AtLeastOne,
    Inside,
    Lower,
    Part,
    Side,
    Template,
    groups_of,
    unknown_groups,
)
from pipeline.datasets.exclusion import Exclude
from pipeline.datasets.readers import READERS
from pipeline.datasets.trees import Layout
from pipeline.images.decoding import Decoding
from pipeline.terminal.errors import ReidpipeError, nearest

Kind = Literal["reid", "parsing", "classification"]
Policy = Literal["direct", "manual", "request", "never"]
# The name of images of one's own that were given none.
UNNAMED = "own"
PUBLISHED_DECODING: Decoding = "as-stored"


class Archive(Part):
    """A published file. A checksum stands here only when a source for it is known.

    content: ``images`` or, for small files, ``lists`` and ``annotations``. size: bytes.
    urls: where to fetch it; empty when a person has to. checksum_source: who published the
    digests.
    """

    name: str
    content: Literal["images", "lists", "annotations"] = "images"
    size: int | None = None
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    urls: tuple[str, ...] = ()
    checksum_source: str | None = None

    @model_validator(mode="after")
    def _digests_have_a_source(self) -> Archive:
        if (self.md5 or self.sha256) and not self.checksum_source:
            raise ValueError(f"{self.name}: a checksum needs checksum_source")
        return self


class Expected(Part):
    """A number to expect: ``7`` (exact), ``{one_of: [7, 8]}`` or ``{warn: 7}``.

    severity ``exact``: anything else is an error; ``warn``: worth a line, not a failure.
    """

    one_of: tuple[int, ...]
    severity: Literal["exact", "warn"] = "exact"

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, int):
            return {"one_of": [value]}
        if isinstance(value, dict) and "warn" in value:
            warn = value["warn"]
            return {"one_of": warn if isinstance(warn, list) else [warn], "severity": "warn"}
        return value


class Counts(Part):
    """Expected numbers of one split; None: nothing is known."""

    ids: Expected | None = None
    images: Expected | None = None
    cameras: Expected | None = None


class Totals(Part):
    """Both ways papers add up a dataset: files as published, rows a loader uses."""

    files_official: int | None = None
    used_by_loader: int | None = None


class Assignment(Part):
    """Splits made from a pool of rows by explicit lists.

    train_ids: identities whose images train. query: explicit images (last folder and file, or the
    file alone), or None: every image of the query_cameras. query_max_pid: greater identities of
    these cameras are left out (their numbers mean other people elsewhere). Everything else of the
    gallery_cameras (None: all) is gallery; a query is also in the gallery only when listed in
    query_in_gallery.
    """

    train_ids: tuple[int, ...]
    query: tuple[str, ...] | None = None
    query_in_gallery: tuple[str, ...] = ()
    query_cameras: tuple[int, ...] | None = None
    query_max_pid: int | None = None
    gallery_cameras: tuple[int, ...] | None = None


class Drawn(Part):
    """Splits drawn by us with a stated seed because none is published: shares per split."""

    seed: int
    shares: dict[Literal["train", "val", "query"], int]
    total: int


class Trials(Part):
    """Galleries drawn anew per trial: ``gallery_per_id`` images of each test identity.

    One trial per seed; the draws are stored in the index as column ``gallery_trials``.
    """

    seeds: tuple[int, ...] = Field(min_length=1)
    gallery_per_id: AtLeastOne = 1


class Orders(Part):
    """In which order the gallery images of each identity and camera are drawn, trial by trial.

    Stored in the index as column ``draw_places``: a trial's gallery of n shots is the images whose
    place in it is below n. seeds: of ours, one per trial. published: a MATLAB file with the
    official ones (cells of cells of (trials, images) permutations, counted from 1, by camera and
    identity), which go before ours where it lies in the root or was fetched.
    """

    seeds: tuple[int, ...]
    published: Inside | None = None


class Protocol(Part):
    """How queries meet the gallery and what is counted.

    exclude: which gallery rows a query does not see (``same-camera``: those of its own identity
    and camera; all: ``pipeline.datasets.exclusion``). without_cameras: the rule in place of exclude
    where no image has a camera.
    query_cameras, gallery_cameras: 0-based cameras that take part (None: all).
    camera_groups: camera -> group; the group takes the camera's place. list: member file whose
    rows take part. trials: how many drawn galleries are averaged. shots: how many images of each
    identity and camera a drawn gallery has (None: other draws, or all). unit: what is ranked; the
    distance to a track is that to its nearest image. cmc ``identities``: a rank is how many other
    people come first, not images. top_k: ranks looked at
    (None: all). average_precision ``found-in-top-k``: mean precision at the hits inside the first
    top_k ranks, divided by the number of hits found there; 0 without any. The two go together.
    """

    name: str
    note: str = ""
    exclude: Exclude = "same-camera"
    without_cameras: Exclude | None = Field(default=None, exclude_if=lambda rule: rule is None)
    query_cameras: tuple[int, ...] | None = None
    gallery_cameras: tuple[int, ...] | None = None
    camera_groups: dict[int, int] | None = None
    list: str | None = None
    trials: AtLeastOne = 1
    shots: int | None = Field(default=None, ge=1, exclude_if=lambda shots: shots is None)
    unit: Literal["image", "track"] = Field(default="image", exclude_if=lambda u: u == "image")
    cmc: Literal["images", "identities"] = Field(
        default="images", exclude_if=lambda counted: counted == "images"
    )
    direction: str = ""
    top_k: AtLeastOne | None = None
    average_precision: Literal["full", "found-in-top-k"] = "full"
    counts: dict[Literal["query", "gallery"], Counts] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _average_is_of_the_ranks(self) -> Protocol:
        if (self.top_k is None) != (self.average_precision == "full"):
            found = "no top_k" if self.top_k is None else f"top_k {self.top_k}"
            raise ValueError(
                f"found {found} and average_precision {self.average_precision} in protocol "
                f"{self.name}; expected top_k with found-in-top-k, or neither"
            )
        return self


class Manifest(Part):
    """One dataset, or one variant of it.

    built_on: the dataset whose images it needs (its archives then carry lists only).
    archives_suffice: whether the archives, unpacked into one folder, are an accepted tree.
    roots: usual names of the root folder. decoding: ``as-stored``, as the authors' loaders read the
    images (EXIF orientation ignored), or ``as-seen`` (``pipeline.images.appearance``), which a YAML
    file of one's own is where it says nothing. suffixes: endings of image files, lower case.
    id_key: template of the identity, its groups joined and read as an integer. camid_base: the
    number the first camera has in names; camera_map: for numbers with gaps or letters, name ->
    camid. columns: extra columns, as a template of the name's groups and ``pid``, or one per camid.
    view_base: the same for views. sequence_key: template of the sequence. strict: a file whose
    name breaks the rule stops the reading. junk: identities to drop; distractors: identities kept
    as negatives only. generated: parameters of images that are drawn, where they are not the
    default. overlap: images (identity and file name) that are both query and gallery.
    input_size: H, W of the reference code. label_set: of the label maps. template: prompt with
    ``{}`` for the class name. names_file: file that gives class names. validation: the dataset,
    ``id`` or ``id:variant``, whose query and gallery a training on this one may look at while it
    runs: people whom neither training nor test shows.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    variant: str | None = None
    variants: tuple[str, ...] = ()
    title: str
    year: int
    kind: Kind
    policy: Policy
    licence: str
    citation: tuple[str, ...]
    homepage: str | None = None
    terms_url: str | None = None
    notice: str
    built_on: str | None = None
    archives: tuple[Archive, ...] = ()
    # Not in the dump, whose digest is in the key of the index: the rows do not depend on it.
    archives_suffice: bool = Field(default=True, exclude=True)
    # What is meant where no variant is typed; not in the dump either.
    default_variant: str | None = Field(default=None, exclude=True)
    # The file it comes from, as typed, where it is not of the package; not in the dump either.
    file: str | None = Field(default=None, exclude=True)
    roots: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    decoding: Decoding = Field(
        default=PUBLISHED_DECODING, exclude_if=lambda value: value == PUBLISHED_DECODING
    )
    suffixes: tuple[Lower, ...] = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
    id_key: Template = "{pid}"
    camid_base: int = 0
    camera_map: dict[int | str, int] | None = None
    columns: dict[str, Template | dict[int, Template]] = Field(
        default_factory=dict, exclude_if=lambda columns: columns == {}
    )
    view_base: int = 0
    sequence_key: Template = "{seq}"
    strict: bool = False
    junk: tuple[int, ...] = ()
    distractors: tuple[int, ...] = ()
    assign: Assignment | None = None
    drawn: Drawn | None = None
    generated: dict[str, Any] = Field(default_factory=dict)
    trials: Trials | None = None
    orders: Orders | None = Field(default=None, exclude_if=lambda orders: orders is None)
    counts: dict[Literal["train", "val", "query", "gallery"], Counts] = Field(default_factory=dict)
    totals: Totals = Totals()
    overlap: int | None = None
    protocols: tuple[Protocol, ...] = ()
    input_size: tuple[Side, Side] | None = None
    label_set: Literal["lip", "cihp", "atr", "pascal", "ccp"] | None = None
    template: str | None = Field(default=None, pattern=r"\{\}")
    names_file: Inside | None = None
    numeric_folders: bool = False
    validation: str | None = Field(default=None, exclude_if=lambda name: name is None)
    # Variants that may be typed together, a+b; no part of what is laid over.
    variants_join: bool = Field(default=False, exclude=True)
    # Any word is a variant: another set of images of one's own.
    any_variant: bool = Field(default=False, exclude=True)

    @property
    def is_own(self) -> bool:
        """Whether its images follow no published scheme: folders or tables of one's own."""
        return any(layout.reader in ("own", "image_folders") for layout in self.layouts)

    @property
    def typed(self) -> str:
        """What a person types to name it."""
        if self.file is None:
            return self.dataset
        return f"{self.file}:{self.variant}" if self.variant else self.file

    @property
    def dataset(self) -> str:
        """``id`` or ``id:variant``: what the index table and the reports call it.

        Images of one's own without a name, ``folder:own``, are ``folder``.
        """
        unnamed = self.variant is None or (self.any_variant and self.variant == UNNAMED)
        return self.id if unnamed else f"{self.id}:{self.variant}"

    @property
    def keyed(self) -> str:
        """``dataset`` as keys have it: with no variant where the default one is meant, however
        that was typed.
        """
        return self.id if self.variant == self.default_variant else self.dataset

    @cached_property
    def default_protocol(self) -> Protocol:
        """The first protocol; sets without one are ranked by the plain Market rule."""
        return self.protocols[0] if self.protocols else Protocol(name="standard")

    def protocol(self, name: str | None) -> Protocol:
        """The protocol called ``name`` (None: the default); unknown names raise ReidpipeError."""
        if name is None:
            return self.default_protocol
        known = {self.default_protocol.name: self.default_protocol}
        known |= {protocol.name: protocol for protocol in self.protocols}
        if name not in known:
            raise ReidpipeError(
                f"found protocol '{name}'{nearest(name, known)}; {self.dataset} has "
                f"{', '.join(known)}; type --protocol {next(iter(known))}"
            )
        return known[name]

    @model_validator(mode="after")
    def _readers_exist(self) -> Manifest:
        for layout in self.layouts:
            READERS.check(layout.reader, f"layout '{layout.name}' of {self.id}")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Manifest:
        protocols = [protocol.name for protocol in self.protocols]
        if len(set(protocols)) < len(protocols):
            raise ValueError(f"found protocols {', '.join(protocols)}; expected each name once")
        # Rules that somebody else's reader has are not written here.
        if any(layout.reader != "files" for layout in self.layouts) or not self.layouts:
            return self
        sources = [source for layout in self.layouts for source in layout.sources]
        known = groups_of([*(layout.rule for layout in self.layouts), *(s.rule for s in sources)])
        columns = [part for text in self.columns.values() for part in _texts(text)]
        for field, templates, more in (
            ("id_key", [self.id_key], {"pid"}),
            ("sequence_key", [self.sequence_key], {"seq"}),
            ("columns", columns, {"pid"}),
        ):
            if unknown := unknown_groups(templates, known | more):
                raise ValueError(
                    f"found {{{unknown[0]}}} in {field}; expected groups of a rule "
                    f"({', '.join(sorted(known)) or 'none has one'})"
                )
        return self

    @field_validator("camera_map", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        # JSON has no numbers as keys: those of an index's definition arrive as text.
        if not isinstance(value, dict):
            return value
        whole = re.compile(r"-?[0-9]{1,18}")
        return {int(k) if whole.fullmatch(str(k)) else k: camid for k, camid in value.items()}

    @field_validator("junk", "distractors", mode="before")
    @classmethod
    def _pids(cls, value: Any) -> Any:
        return value["pids"] if isinstance(value, dict) and set(value) == {"pids"} else value

    @model_validator(mode="after")
    def _addresses_follow_the_policy(self) -> Manifest:
        if self.policy == "never":
            for text in _texts(self.model_dump(exclude={"layouts"})):
                if re.search(r"://|\bwww\.|\b[\w-]+\.(?:com|org|net|edu|cn|io)\b", text):
                    raise ValueError(f"policy 'never' allows no address anywhere, found '{text}'")
        if self.built_on:
            for archive in self.archives:
                if archive.content == "images":
                    raise ValueError(
                        f"{archive.name}: images come from the user's copy of {self.built_on}, "
                        "only lists may be archives"
                    )
        if self.policy != "direct" and any(
            archive.urls for archive in self.archives if archive.content == "images"
        ):
            raise ValueError(f"policy '{self.policy}' allows no fetched image archive")
        return self


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
