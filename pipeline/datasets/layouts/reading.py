"""From a dataset's tree on disk to rows: the one entrance for every layout."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.own import Holdout, read_own
from pipeline.datasets.layouts.own.rules import likely
from pipeline.datasets.layouts.roots import find_root, match_layout
from pipeline.datasets.layouts.rows import LayoutResult
from pipeline.datasets.layouts.splits import complete
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.readers import READERS
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened


def read_layout(
    root: Path,
    manifest: Manifest,
    *,
    output: Path | None = None,
    rule: str | None = None,
    holdout: Holdout | None = None,
    lists: Path | None = None,
) -> LayoutResult:
    """All rows of a dataset whose root ``find_root`` has found (or whose root was typed exactly).

    output: where readers that extract from .mat files put PNG files; needed by those only, and
    then rows are relative to it (CUHK03) or name label maps in it (Pascal-Context). rule, holdout:
    see ``read_own``; for images of one's own only. lists: folder with fetched list files, for
    datasets whose lists are not kept beside the images (Occluded-Duke).

    Rows are sorted by split and path. Raises ReidpipeError for every mistake of a tree: nothing
    accepted, list entries without a file, names that break a strict rule, no image at all.
    """
    root = Path(root).expanduser().absolute()
    if manifest.is_own and manifest.kind != "classification":
        return read_own(root, rule=rule, holdout=holdout, dataset=manifest.typed)
    if rule is not None or holdout is not None:
        what, known = (
            ("naming rule", "names are") if rule is not None else ("holdout", "splits are")
        )
        raise ReidpipeError(
            f"found a {what} for {manifest.dataset}; its {known} known; "
            "type reidpipe prepare folder --root DIR for a tree of your own"
        )
    layout = match_layout(root, manifest, lists=lists)
    if layout is None:
        root = find_root(root, manifest, lists=lists)
        layout = match_layout(root, manifest, lists=lists)
        assert layout is not None
    reading = Reading(root=root, manifest=manifest, layout=layout, lists=lists)
    read = READERS[layout.reader]
    if "output" in signature(read).parameters:
        if output is None:
            raise ReidpipeError(
                f"found {manifest.title} as .mat files in {root}; expected a folder to extract "
                f"to; type reidpipe prepare {manifest.typed} --root {root}"
            )
        read(reading, Path(output).absolute())
    else:
        read(reading)
    complete(reading)
    if not reading.rows:
        odd = f"; names such as {shortened(reading.unmatched)} break the rule" * bool(
            reading.unmatched
        )
        raise ReidpipeError(
            f"found no image of {manifest.title} in {reading.root}{odd}; expected names like "
            f"{layout.rule or 'those of the published archive'}; {_cure(reading)}"
        )
    reading.rows.sort(key=lambda row: (row.split, row.path))
    return LayoutResult(
        root=reading.root,
        rows=reading.rows,
        layout=layout.name,
        dropped=dict(reading.dropped),
        unmatched=reading.unmatched,
        notes=reading.notes,
        examples=reading.examples,
    )


def _cure(reading: Reading) -> str:
    """What to type: images of one's own that follow a scheme like the dataset's are no archive."""
    rule = likely([path.rsplit("/", 1)[-1] for path in reading.unmatched])
    if rule is None:
        return "unpack the archive again"
    return (
        f"unpack the archive again; if these are images of your own, type reidpipe prepare folder "
        f"--root {reading.root} --rule '{rule}'"
    )
