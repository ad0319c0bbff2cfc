"""Finding the folder that holds a dataset, below the folder a person typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts.patience import expression
from pipeline.datasets.layouts.rows import is_skipped, plain_name, subfolders, walk_images
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.trees import Layout
from pipeline.terminal.errors import ReidpipeError

MAX_DEPTH = 3
# A wrong start (a home folder, the file system's root) ends the search instead of hanging it.
MAX_FOLDERS = 20_000


def find_root(start: Path, manifest: Manifest, *, lists: Path | None = None) -> Path:
    """The absolute folder, 0 to 3 levels below ``start``, that one of the layouts describes.

    Archives unpack into doubled folders and people move them around, so any nesting up to three
    levels is accepted. Of several folders that fit, the start itself is taken, else one whose
    layout asks for most, and of these the one with a usual name of the dataset.
    lists: folder with fetched list files, looked into beside each candidate.
    Raises ReidpipeError in one line: what was looked for, where, and the
    folder that came nearest.
    """
    if not manifest.layouts:
        raise ReidpipeError(
            f"found a folder for {manifest.dataset}, whose images are generated; expected none; "
            f"type reidpipe prepare {manifest.typed}"
        )
    start = Path(start).expanduser().absolute()
    if not start.is_dir():
        raise ReidpipeError(
            f"found no folder {start}; expected the images of {manifest.dataset}; "
            f"type reidpipe prepare {manifest.typed} --root FOLDER"
        )
    best: Path | None = None
    best_rank = (True, 0, 0)
    for folder in _folders(start):
        layout = match_layout(folder, manifest, lists=lists, spread=folder == start)
        if layout is None:
            continue
        rank = _rank(folder, layout, manifest)
        if folder == start and not rank[0]:
            return folder
        if best is None or rank < best_rank:
            best, best_rank = folder, rank
    if best is not None:
        # Reading one whose names do not fit names these files, which says more than "not found".
        return best
    parent = start.parent
    tops = {name.split("/")[0] for layout in manifest.layouts for name in layout.requires}
    # One of the folders that a layout requires was typed in place of the one that holds them.
    if start.name in tops and match_layout(parent, manifest, lists=lists, spread=False):
        return parent
    raise ReidpipeError(_failure(start, manifest, lists))


def _rank(folder: Path, layout: Layout, manifest: Manifest) -> tuple[bool, int, int]:
    """How well a folder fits, least is best: its images' names, what it has, its own name.

    Market-style trees of several datasets differ in the names of images alone, ImageNet and its
    variants in that of the folder.
    """
    usual = [name.split("/")[-1] for name in (*manifest.roots, manifest.id)]
    place = usual.index(folder.name) if folder.name in usual else len(usual)
    return not _names_fit(folder, layout), -len(layout.requires), place


def _names_fit(root: Path, layout: Layout) -> bool:
    """Whether the first image follows the rule: Market and Duke differ in nothing else."""
    for source in layout.sources:
        rule = source.rule or layout.rule
        folder = locate(root, source.folder, layout)
        if rule is None or source.list is not None or folder is None:
            continue
        first = next(walk_images(folder), None)
        return first is None or any(
            expression(rule).match(name) for name in (first.name, plain_name(first.name))
        )
    return True


def match_layout(
    root: Path, manifest: Manifest, *, lists: Path | None = None, spread: bool = True
) -> Layout | None:
    """The first layout whose required entries exist below ``root``.

    spread: whether layouts that allow it are searched for below the root; a search over many
    roots asks for that once, or it would walk the same folders again and again.
    """
    for layout in manifest.layouts:
        if not _lacking(root, layout, lists, spread=spread):
            return layout
    return None


def _lacking(root: Path, layout: Layout, lists: Path | None, *, spread: bool) -> list[str]:
    layout = layout if spread else layout.model_copy(update={"spread": False})
    return [name for name in layout.requires if locate(root, name, layout, lists) is None]


def locate(root: Path, name: str, layout: Layout, lists: Path | None = None) -> Path | None:
    """Where a layout's entry lies: ``root/name``, deeper when spread, else among ``lists``.

    A root that is the first folder of ``name`` itself serves too: the one folder of a flat set is
    what people type, and its neighbours are none of the dataset's.
    """
    direct = root / name
    if direct.exists() and _same_case(direct, name):
        return direct
    first, _, rest = name.partition("/")
    if first == root.name and (root / rest).exists():
        return root / rest
    if layout.spread:
        for folder in _folders(root):
            if (folder / name).exists():
                return folder / name
    if lists is not None and (lists / name).is_file():
        return lists / name
    return None


def names_beside(root: Path, name: str) -> Path | None:
    """The list of class names that is read, where it lies beside ``root`` and not in it: variants
    usually lie beside ImageNet, whose list they share.
    """
    if (root / name).is_file():
        return None
    near = (root.parent, root.parent / "imagenet", root.parent.parent / "imagenet")
    return next((folder / name for folder in near if (folder / name).is_file()), None)


def _same_case(path: Path, name: str) -> bool:
    # On case-insensitive disks `Train` would pass for `train` and break the paths in the index.
    last = Path(name).name
    return last in (".", "") or any(entry.name == last for entry in path.parent.iterdir())


def _folders(start: Path) -> Iterator[Path]:
    level, visited = [start], 0
    for depth in range(MAX_DEPTH + 1):
        deeper: list[Path] = []
        for folder in level:
            yield folder
            visited += 1
            if visited > MAX_FOLDERS:
                return
            if depth < MAX_DEPTH:
                deeper += _subfolders(folder)
        level = deeper


def _subfolders(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)
    except PermissionError:
        # A folder that may not be read cannot be the dataset; the final message names the start.
        return []


def _failure(start: Path, manifest: Manifest, lists: Path | None) -> str:
    wanted = " or ".join(dict.fromkeys(", ".join(lay.requires) for lay in manifest.layouts))
    usual = f" (usual root: {', '.join(manifest.roots)})" if manifest.roots else ""
    return (
        f"found no {manifest.title} in {start} or up to {MAX_DEPTH} levels below; "
        f"expected a folder with {wanted}{usual}; {_nearest_match(start, manifest, lists)}"
        f"type reidpipe prepare {manifest.typed} --root FOLDER"
    )


def _nearest_match(start: Path, manifest: Manifest, lists: Path | None) -> str:
    """What was found instead, as clauses that end in a semicolon."""
    clauses = ""
    for name in manifest.variants:
        other = load_manifest(f"{manifest.id}:{name}")
        if other.layouts == manifest.layouts:
            continue
        holders = (f for f in _folders(start) if match_layout(f, other, spread=False) is not None)
        holder = next(holders, None)
        if holder is not None:
            clauses = f"{holder} holds {other.dataset}; "
            break
    most = 0
    nearest = ""
    for folder in _folders(start):
        for layout in manifest.layouts:
            lacking = _lacking(folder, layout, lists, spread=folder == start)
            present = len(layout.requires) - len(lacking)
            if present > most:
                most = present
                nearest = f"nearest is {folder}, which lacks {', '.join(lacking)}; "
    if clauses or nearest:
        return clauses + nearest
    names = [entry.name for entry in sorted(start.iterdir()) if not is_skipped(entry.name)]
    return f"found there: {', '.join(names[:6]) or 'nothing'}; "
