"""A person's own images: folders, naming rules or a table, as rows."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipeline.datasets.layouts.own.classes import OF_CLASSES, are_classes, class_rows
from pipeline.datasets.layouts.own.found import Tale
from pipeline.datasets.layouts.own.holdout import Holdout, hold_out, query_and_gallery
from pipeline.datasets.layouts.own.people import numbered, people_only
from pipeline.datasets.layouts.own.table import read_table, tell_sheet
from pipeline.datasets.layouts.own.tree import no_image, read_tree, unwrapped
from pipeline.datasets.layouts.own.words import TEST
from pipeline.datasets.layouts.rows import LayoutResult, is_image
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

TABLE = "index.csv"


def read_own(
    root: Path,
    *,
    rule: str | None = None,
    holdout: Holdout | None = None,
    dataset: str = "folder",
    everyone: bool = False,
) -> LayoutResult:
    """Rows of a tree that follows no published scheme.

    root: a folder or a CSV file; folders that hold nothing but one folder of folders are entered.
    Tried in this order, and told: a CSV (the file itself, or ``index.csv`` in the folder), see
    ``read_table``, which may be of classes in place of people (``are_classes``); split folders
    (train, val, query, gallery, or what others call them), in each of them or else in the folder
    itself the ``rule`` (groups pid, camid, view, frame, seq), identity folders, identity folders
    with camera folders above or below; flat names, whose likely rule is proposed, or which have no
    identities. Who takes part is said by ``people_only``. A split ``test`` and a ``holdout`` become
    query and gallery (``query_and_gallery``). dataset: what the set is called, for commands that
    are proposed. everyone: images without an identity are rows like the others.
    Raises ReidpipeError for trees, tables and rules that cannot be read or can be read in two ways.
    """
    if not root.exists():
        raise ReidpipeError(
            f"found no folder or CSV file {root}; expected your images; "
            f"type reidpipe prepare {dataset} --root FOLDER"
        )
    tale = Tale()
    table = root
    if root.is_dir():
        root, tale.notes = unwrapped(root, TABLE)
        table = root / TABLE
    if is_image(table.name) and table.is_file():
        raise ReidpipeError(
            f"found the image {table}; expected its folder or a CSV table; "
            f"type reidpipe prepare {dataset} --root {shlex.quote(str(table.parent))}"
        )
    if table.is_file():
        if rule is not None:
            raise ReidpipeError(
                f"found a naming rule and the table {table}; expected one of them, a table says "
                "who its images show; leave --rule out or type --root FOLDER without the table"
            )
        tell_sheet(table)
        root, found = table.parent, read_table(table, tale)
    else:
        found = read_tree(root, rule, tale, dataset=dataset)
    if are_classes(found):
        if holdout is not None:
            raise ReidpipeError(
                f"found --holdout and the classes of {table}; expected people; leave it out: "
                "reidpipe classify holds images out by itself where none are for the test"
            )
        tale.notes.append(f"classes of images, for reidpipe classify RECIPE --dataset {dataset}")
        return LayoutResult(root, class_rows(found), OF_CLASSES, notes=tale.notes)
    found = people_only(found, tale, everyone=everyone)
    if not found:
        raise ReidpipeError(_nothing(root, tale))
    if holdout is not None:
        found, line = hold_out(found, holdout)
        tale.notes.append(line)
    elif any(image.split == TEST for image in found):
        found = query_and_gallery(found)
        tale.notes.append(
            "test images became query and gallery: with cameras a query per person and camera, "
            "else every fourth image"
        )
    elif not tale.has_splits and {image.split for image in found} == {"train"}:
        tale.notes.append("no split folders found: all images are in train")
    rows = sorted(numbered(found, tale), key=lambda row: (row.split, row.path))
    return LayoutResult(
        root,
        rows,
        tale.layout,
        {reason: len(paths) for reason, paths in tale.left_out.items()},
        tale.unmatched,
        tale.notes,
        {reason: paths[0] for reason, paths in tale.left_out.items()},
        tale.cameras,
    )


def _nothing(root: Path, tale: Tale) -> str:
    reasons = [f"{len(paths)} {why}" for why, paths in tale.left_out.items()]
    if tale.unmatched:
        reasons.append(f"{len(tale.unmatched)} whose names break the rule")
    first = shortened(
        [*tale.unmatched, *(path for paths in tale.left_out.values() for path in paths)]
    )
    what = f"{' and '.join(reasons)}, such as {first}, and nothing else"
    cure = "type the folder that holds them"
    if not reasons:
        what, cure = no_image(root)
    return (
        f"found {what} in {root}; expected FOLDER/<identity>/<image>, "
        "FOLDER/<split>/<identity>/<image>, a CSV with a column path, or a naming rule with a "
        f"group (?P<pid>...); {cure}"
    )
