"""Reading trees whose files are described by folders, list files and one name rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.layouts.identities import listed_identities
from pipeline.datasets.layouts.patience import check_patience, expression
from pipeline.datasets.layouts.roots import locate
from pipeline.datasets.layouts.rows import (
    LayoutRow,
    integer,
    not_a_number,
    plain_name,
    read_lines,
    walk_images,
)
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.trees import Layout, Source
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened


@dataclass
class Reading:
    """What accumulates while a tree is read."""

    root: Path
    manifest: Manifest
    layout: Layout
    lists: Path | None = None
    rows: list[LayoutRow] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _places: dict[str, Path | None] = field(default_factory=dict)
    _joined: dict[str | int, tuple[tuple[str | int, ...], str]] = field(default_factory=dict)

    def place(self, name: str) -> Path | None:
        """Where an entry of the layout lies; looked for once."""
        if name not in self._places:
            self._places[name] = locate(self.root, name, self.layout, self.lists)
        return self._places[name]

    def file(self, name: str) -> Path | None:
        """An existing file ``folder/.../name`` whose first folder is an entry of the layout."""
        first, _, rest = name.partition("/")
        folder = self.place(first) if rest else self.root
        if folder is None:
            return None
        path = folder / (rest or first)
        return path if path.is_file() else None

    def relative(self, path: Path) -> str:
        """Posix path below the root."""
        return path.relative_to(self.root).as_posix()

    def joined_identity(self, fields: dict[str, str], path: Path) -> str:
        """The identity as ``id_key`` joins it from the groups of a name.

        Raises ReidpipeError where other groups gave the same: two people would be one.
        """
        template = self.manifest.id_key
        name = _template(template, fields)
        groups = re.findall(r"\{(\w+)\}", template)
        if len(groups) < 2:
            return name
        said = tuple(_as_number(fields.get(group, "")) for group in groups)
        before, first = self._joined.setdefault(_as_number(name), (said, path.name))
        if before != said:
            raise ReidpipeError(
                f"found one identity, {name}, of {first} and {path.name} by id_key '{template}'; "
                f"expected an identity of each; type id_key: '{template.replace('}{', '}_{')}'"
            )
        return name

    def leave_out(self, why: str, *images: Path | str) -> None:
        """Count images that take no part; the first is the example that is told."""
        for image in images:
            self.dropped[why] += 1
            if why not in self.examples:
                self.examples[why] = image if isinstance(image, str) else self.relative(image)


def read_files(reading: Reading) -> None:
    """Fill a reading from the sources of its layout.

    Raises ReidpipeError for list entries without a file, list lines that cannot be read, image
    names that break the rule of a strict dataset or give two people one identity, and images
    without their label map.
    """
    listed: set[str] = set()
    known: dict[Path, bool] = {}
    for source in reading.layout.sources:
        if source.optional and reading.place(source.list or source.folder) is None:
            continue
        text = source.rule or reading.layout.rule
        rule = expression(text) if text else None
        if text and reading.manifest.file is not None:  # those of the package come to an end
            check_patience(text, _names(reading, source))
        identities = listed_identities(reading, source.identities) if source.identities else None
        for path, pid in _images(reading, source):
            taken = _add(reading, source, path, pid, rule, identities)
            if source.list is not None:
                listed.add(str(path))
            if identities is not None:
                known[path] = known.get(path, False) or taken
    _tell_unlisted(reading, listed)
    reading.leave_out("identity in no list", *(path for path, taken in known.items() if not taken))
    if reading.unmatched and reading.manifest.strict:
        raise ReidpipeError(
            f"found {len(reading.unmatched)} image names of {reading.manifest.title} in "
            f"{reading.root} that break its naming rule: {shortened(reading.unmatched)}; "
            "expected every image to carry identity and camera; remove or rename them"
        )


def _names(reading: Reading, source: Source) -> Iterator[str]:
    """Names that the rule of a source may be matched with."""
    if source.list is None:
        folder = reading.place(source.folder)
        yield from (path.name for path in walk_images(folder or reading.root))
    else:
        listing = reading.place(source.list)
        yield from (line.split("/")[-1] for line in (read_lines(listing) if listing else ()))


def _place(reading: Reading, source: Source, name: str) -> Path:
    place = reading.place(name)
    if place is None:
        raise ReidpipeError(
            f"found no {name} in {reading.root}, where the images of '{source.split}' are; "
            f"expected it as the description of {reading.manifest.title} says; correct it, or "
            "write optional: true beside it"
        )
    return place


def _images(reading: Reading, source: Source) -> Iterator[tuple[Path, str | None]]:
    if source.list is None:
        folder = _place(reading, source, source.folder)
        for path in walk_images(folder):
            if source.depth and len(path.parts) - len(folder.parts) > source.depth:
                reading.leave_out("deeper than the layout's folders", path)
            else:
                yield path, None
        return
    listing = _place(reading, source, source.list)
    line_rule = expression(source.line, called="the rule of lines")
    if reading.manifest.file is not None:
        check_patience(source.line, read_lines(listing), called="the rule of lines")
    absent: list[str] = []
    for number, line in enumerate(read_lines(listing), start=1):
        match = line_rule.match(line)
        if match is None:
            raise ReidpipeError(
                f"{listing} line {number}: found '{line[:80]}'; expected {source.line}; "
                "fetch the list file again"
            )
        fields = match.groupdict()
        candidates = (reading.file(t.format(path=fields["path"])) for t in source.images)
        path = next((candidate for candidate in candidates if candidate is not None), None)
        if path is None:
            absent.append(fields["path"])
        else:
            yield path, fields.get("pid")
    if absent:
        raise ReidpipeError(
            f"{listing.name} names {len(absent)} images that are not in {reading.root}: "
            f"{shortened(absent)}; expected the whole {reading.manifest.title}; unpack it again"
        )


def _tell_unlisted(reading: Reading, listed: set[str]) -> None:
    """Count the images that lie where the lists' images lie, and that no list names."""
    templates = (text for source in reading.layout.sources if source.list for text in source.images)
    folders = dict.fromkeys(text.partition("{")[0].rpartition("/")[0] for text in templates)
    for first, _, rest in (folder.partition("/") for folder in folders if folder):
        place = reading.place(first)
        if place is not None:
            others = (path for path in walk_images(place / rest) if str(path) not in listed)
            reading.leave_out("in no list", *others)


def _add(
    reading: Reading,
    source: Source,
    path: Path,
    listed: str | None,
    rule: re.Pattern[str] | None,
    identities: frozenset[int] | None = None,
) -> bool:
    """Whether the image takes part, as far as the lists of identities go."""
    manifest = reading.manifest
    fields: dict[str, str] = {}
    if path.suffix.lower() not in manifest.suffixes:
        reading.unmatched.append(reading.relative(path))
        return True
    if rule is not None:
        match = rule.match(path.name) or rule.match(plain_name(path.name))
        if match is None:
            reading.unmatched.append(reading.relative(path))
            return True
        fields = {name: value or "" for name, value in match.groupdict().items()}
    pid, extra = _identity(reading, source, path, listed, fields)
    if pid in manifest.junk:
        reading.leave_out(f"junk identity {pid}", path)
        return True
    if identities is not None and pid not in identities:
        return False
    camid = _camid(manifest, source, path, fields)
    view = _number(fields, "view", path)
    extra |= _columns(manifest, camid, {"pid": "" if pid is None else str(pid), **fields})
    if source.labels is not None:
        label = reading.file(source.labels.format(stem=path.stem))
        if label is None:
            raise ReidpipeError(
                f"found no label map of {reading.relative(path)} in {reading.root}; expected "
                f"{source.labels.format(stem=path.stem)}; unpack the annotations beside the images"
            )
        extra["label_path"] = reading.relative(label)
    reading.rows.append(
        LayoutRow(
            path=reading.relative(path),
            split=source.split,
            pid=pid,
            camid=camid,
            view=None if view is None else view - manifest.view_base,
            sequence=_template(manifest.sequence_key, fields),
            frame=_number(fields, "frame", path),
            extra=extra,
        )
    )
    return True


def _columns(manifest: Manifest, camid: int | None, fields: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, template in manifest.columns.items():
        text = (
            template if isinstance(template, str) else template.get(-1 if camid is None else camid)
        )
        found[name] = _template(text or "", fields)
    return found


def _identity(
    reading: Reading,
    source: Source,
    path: Path,
    listed: str | None,
    fields: dict[str, str],
) -> tuple[int | None, dict[str, str]]:
    if source.pid_from == "none":
        return None, {}
    if source.pid_from == "list" and listed is None:
        raise ReidpipeError(
            f"{source.list}: found no identity beside {path.name}; expected `path identity`"
        )
    name = {"list": listed, "folder": path.parent.name}.get(source.pid_from)
    if name is None:
        name = reading.joined_identity(fields, path)
    pid = integer(name)
    return pid, {"identity": name} if pid is None else {}


def _camid(manifest: Manifest, source: Source, path: Path, fields: dict[str, str]) -> int | None:
    if source.camid is not None:
        return source.camid
    written = fields.get("camid")
    if not written:
        return None
    number = integer(written)
    if manifest.camera_map is not None:
        called = written if number is None else number
        if called not in manifest.camera_map:
            raise ReidpipeError(
                f"found camera {called} in {manifest.title}; expected one of "
                f"{', '.join(map(str, manifest.camera_map))}; the archive is another release"
            )
        return manifest.camera_map[called]
    if number is None:
        raise ReidpipeError(
            f"found camera {written} in {path.name}; expected a number, or a `camera_map` in the "
            f"description of {manifest.title}, such as {{{written}: 0}}; write one"
        )
    return number - manifest.camid_base


def _as_number(text: str) -> str | int:
    number = integer(text)
    return text if number is None else number


def _number(fields: dict[str, str], group: str, path: Path) -> int | None:
    text = fields.get(group)
    if not text:
        return None
    number = integer(text)
    if number is None:
        raise not_a_number(group, text, path.name)
    return number


def _template(template: str, fields: dict[str, str]) -> str:
    # A template may name groups that only some layouts of the dataset have.
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], ""), template)
