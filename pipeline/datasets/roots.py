"""Where a dataset's images are: typed, registered, found in a usual place, unpacked or fetched."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts import atomic
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fetch import (
    FetchError,
    by_hand,
    fetch_archives,
    list_by_hand,
    verify_archive,
)
from pipeline.datasets.layouts import find_root, read_layout
from pipeline.datasets.layouts.counts import verify_counts
from pipeline.datasets.layouts.orders import published_draws
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.layouts.roots import match_layout
from pipeline.datasets.manifest import UNNAMED, Archive, Manifest
from pipeline.datasets.registration import (
    folder_of,
    is_registered,
    locked,
    register,
    registered_holdout,
    registered_place,
    registered_rule,
)
from pipeline.datasets.unpack import DamagedArchive, unpack
from pipeline.terminal.errors import ReidpipeError

log = logging.getLogger(__name__)
DATA_FOLDERS = ("REIDPIPE_DATA", "FASTREID_DATASETS")


def prepare_root(
    dataset: str,
    workspace: Path,
    *,
    root: Path | None = None,
    archive: Path | None = None,
    rule: str | None = None,
    holdout: Holdout | None = None,
    progress: bool = False,
) -> Path:
    """Find, unpack or fetch a dataset's images and register their folder in the workspace.

    dataset: ``id`` or ``id:variant``. root: a folder that holds the dataset, up to three levels
    down (for images of your own: the folder or CSV table itself). archive: a published file got
    by hand; it is verified and unpacked, further ones are expected beside it. Without either: the
    registered folder, else the usual places, else a download where the licence allows one.
    rule, holdout: naming rule and people held out, for images of your own; remembered with root.
    Returns the dataset's root. Raises ReidpipeError when nothing usable is there, and for a YAML
    file whose id another one was prepared under.
    """
    manifest = load_manifest(dataset)
    if root is not None and archive is not None:
        raise ReidpipeError("found both --root and --archive; expected one of them; leave one out")
    with locked(manifest, workspace):
        return _prepare(manifest, workspace, root, archive, rule, holdout, progress)


def _prepare(
    manifest: Manifest,
    workspace: Path,
    root: Path | None,
    archive: Path | None,
    rule: str | None,
    holdout: Holdout | None,
    progress: bool,
) -> Path:
    if root is not None:
        found = _locate(root, manifest, workspace, progress)
    elif archive is not None:
        if not manifest.archives_suffice:
            raise ReidpipeError(
                f"found --archive for {manifest.dataset}, whose archives alone are not its tree; "
                f"expected a folder with {', '.join(manifest.layouts[0].requires)}; unpack and "
                f"arrange them, then type `reidpipe prepare {manifest.typed} --root DIR`"
            )
        files = _with_siblings(archive, manifest)
        found = _locate(_unpacked(files, manifest, workspace), manifest, workspace, progress)
    else:
        start = _search(manifest, workspace)
        if start is None:
            if manifest.policy != "direct":
                raise ReidpipeError(_not_found(manifest))
            _check_names(manifest, workspace)
            folder = folder_of(manifest, workspace) / "archives"
            files = fetch_archives(manifest, folder, progress=progress)
            start = _unpacked_or_removed(files, manifest, workspace)
        found = _locate(start, manifest, workspace, progress)
        rule = rule or registered_rule(workspace, manifest)
        holdout = holdout or registered_holdout(workspace, manifest)
    if manifest.is_own:
        # A folder that cannot be read must not take the place of one that could.
        read_layout(found, manifest, rule=rule, holdout=holdout)
    register(manifest, workspace, found, rule, holdout)
    return found


def registered_root(workspace: Path, dataset: str) -> Path:
    """The dataset's root: as registered, else below $REIDPIPE_DATA, $FASTREID_DATASETS, ./data.

    Raises ReidpipeError saying what was searched and what to type.
    """
    manifest = load_manifest(dataset)
    start = _search(manifest, workspace)
    if start is None:
        raise ReidpipeError(_not_found(manifest))
    if manifest.is_own:
        return start
    return find_root(start, manifest, lists=lists_folder(manifest, workspace))


def lists_folder(manifest: Manifest, workspace: Path) -> Path | None:
    """The folder with list files fetched for this dataset, if there is one."""
    folder = folder_of(manifest, workspace) / "lists"
    return folder if folder.is_dir() else None


def _locate(start: Path, manifest: Manifest, workspace: Path, progress: bool) -> Path:
    """The root below ``start``; published lists are fetched when the tree lacks them."""
    start = start.expanduser().absolute()
    if manifest.is_own:
        if not start.exists():
            raise ReidpipeError(
                f"found nothing at {start}; expected a folder of images or a CSV table; "
                f"type `reidpipe prepare {manifest.typed} --root DIR`"
            )
        return start
    lists = lists_folder(manifest, workspace)
    published = [a for a in manifest.archives if a.content == "lists" and a.urls]
    if lists is not None or not published or not start.is_dir():
        return find_root(start, manifest, lists=lists)
    try:
        root = find_root(start, manifest)
    except ReidpipeError as error:
        try:
            lists = _fetched_lists(manifest, workspace, progress)
        except FetchError as failure:
            raise error from failure
    else:
        if manifest.orders is not None and manifest.orders.published is not None:
            return _with_draws(root, manifest, workspace, progress)
        # The tree of the dataset it is built on looks the same; only the counts tell, unless the
        # lists lie inside.
        if (
            manifest.built_on is None
            or all((root / wanted.name).is_file() for wanted in published)
            or not any(
                line.startswith("error:")
                for line in verify_counts(read_layout(root, manifest).rows, manifest)
            )
        ):
            return root
        lists = _fetched_lists(manifest, workspace, progress)
    return find_root(start, manifest, lists=lists)


def _with_draws(root: Path, manifest: Manifest, workspace: Path, progress: bool) -> Path:
    """``root``, with the official draws fetched where it has none; without a network the index
    draws and says so.
    """
    assert manifest.orders is not None
    if published_draws(root, manifest.orders, None) is None:
        try:
            _fetched_lists(manifest, workspace, progress)
        except FetchError as failure:
            log.warning("%s", failure)
    return root


def _fetched_lists(manifest: Manifest, workspace: Path, progress: bool) -> Path:
    folder = folder_of(manifest, workspace)
    files = fetch_archives(manifest, folder / "archives", content=("lists",), progress=progress)
    unpack(files, folder / "lists")
    return folder / "lists"


def _search(manifest: Manifest, workspace: Path) -> Path | None:
    """A folder at or above the dataset's root; None when nothing is there. What was registered of
    another variant serves where it is this one too.
    """
    other: Path | None = None
    for known in (manifest, *([load_manifest(manifest.built_on)] if manifest.built_on else [])):
        root = registered_place(known, workspace)
        if root is None:
            continue
        ours = manifest.is_own or known is not manifest or is_registered(manifest, workspace)
        if not ours:
            other = root if root.exists() else None
            continue
        if root.exists():
            return root
        # What was unpacked here can be fetched again; a folder of the user's is asked for.
        if known.policy != "direct" or not root.is_relative_to(workspace.absolute() / "datasets"):
            raise ReidpipeError(
                f"found the registered folder {root} of {known.dataset} gone; expected its "
                f"images; type `reidpipe prepare {known.typed} --root DIR`"
            )
    lists = lists_folder(manifest, workspace)
    failures = []
    for place in filter(Path.is_dir, (*([other] if other else []), *_usual_places(manifest))):
        if manifest.is_own:
            return place
        try:
            found = find_root(place, manifest, lists=lists)
        except ReidpipeError as error:
            failures.append(error)
            continue
        layout = match_layout(found, manifest, lists=lists)
        said = "" if place == other else f"{place.name}/{found.name}".lower()
        if layout is None or not layout.says_variant or f"{manifest.variant}" in said:
            return found
        other = None if place == other else other
        failures.append(
            ReidpipeError(
                f"found {manifest.title} in {found}, of which nothing says that it is "
                f"{manifest.dataset}; expected {manifest.variant} in the folder's name; type "
                f"`reidpipe prepare {manifest.typed} --root DIR` with the folder that is"
            )
        )
    if other is not None:  # lists that it lacks may be fetched
        return other
    if failures:
        raise failures[0]
    return None


def _bases() -> list[tuple[str, Path]]:
    bases = [(f"${name}", os.environ.get(name)) for name in DATA_FOLDERS]
    return [(name, Path(value)) for name, value in [*bases, ("./data", "data")] if value]


def _usual_places(manifest: Manifest) -> Iterator[Path]:
    if manifest.any_variant and manifest.variant != UNNAMED:
        return
    for _, base in _bases():
        for name in (*manifest.roots, manifest.id):
            yield base.expanduser().absolute() / name


def _not_found(manifest: Manifest) -> str:
    places = ", ".join(name if name == "./data" else f"{name}={path}" for name, path in _bases())
    unset = [f"${name}" for name in DATA_FOLDERS if not os.environ.get(name)]
    also = f"; {' and '.join(unset)} not set" if unset else ""
    names = ", ".join(dict.fromkeys((*manifest.roots, manifest.id)))
    if manifest.is_own:
        return (
            f"found no images of yours called {manifest.typed} (searched {places} for {names}"
            f"{also}); expected a folder or a CSV table of images; type "
            f"`reidpipe prepare {manifest.typed} --root DIR`"
        )
    cure = (
        f"type `reidpipe prepare {manifest.typed}` to fetch it"
        if manifest.policy == "direct" and manifest.archives
        else by_hand(manifest)
    )
    return f"found no {manifest.dataset} (searched {places} for {names}{also}); {cure}"


def _with_siblings(archive: Path, manifest: Manifest) -> list[Path]:
    """All published files of the dataset, verified: the one typed and the others beside it.

    Lists with an address may be absent: they are fetched when the tree needs them.
    """
    archive = archive.expanduser().absolute()
    source = load_manifest(manifest.built_on) if manifest.built_on else manifest
    if source is not manifest and archive.name in [wanted.name for wanted in manifest.archives]:
        raise ReidpipeError(
            f"found --archive {archive.name}, a list; expected the archive of the images; "
            f"{list_by_hand(manifest)}"
        )
    published = source.archives or (Archive(name=archive.name),)
    chosen = next((wanted for wanted in published if wanted.name == archive.name), None)
    if chosen is None:
        images = [wanted for wanted in published if wanted.content == "images"]
        if len(images) != 1:
            raise ReidpipeError(
                f"found {archive.name}; expected one of {', '.join(a.name for a in published)}; "
                "give the file its published name"
            )
        chosen = images[0]
    files = []
    for wanted in published:
        path = archive if wanted is chosen else archive.with_name(wanted.name)
        if wanted is not chosen and not path.exists() and wanted.content == "lists" and wanted.urls:
            continue
        verify_archive(path, wanted, dataset=manifest.typed)
        files.append(path)
    return files


def _unpacked(files: list[Path], manifest: Manifest, workspace: Path) -> Path:
    """The folder with the content of ``files``; unpacked once per set of files."""
    target = folder_of(manifest, workspace) / "files"
    note = folder_of(manifest, workspace) / "unpacked.json"
    content = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    if target.is_dir() and note.is_file() and atomic.read_json(note) == content:
        return target
    fresh = target.with_name("files.new")
    leftovers = [fresh, *target.parent.glob(f".{fresh.name}.tmp-*")]  # of a killed run
    for folder in filter(Path.exists, leftovers):
        shutil.rmtree(folder)
    unpack(files, fresh)
    # Only now: an archive that is refused leaves what was there.
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    atomic.write_json(note, content)
    return target


def _check_names(manifest: Manifest, workspace: Path) -> None:
    """Gigabytes must not be fetched only to tell that the list of class names is missing."""
    if manifest.names_file is None:
        return
    # Beside the unpacked tree, and beside ImageNet's: where the reader looks.
    own = folder_of(manifest, workspace) / manifest.names_file
    if not own.is_file() and not (own.parents[1] / "imagenet" / own.name).is_file():
        raise ReidpipeError(
            f"found no {own.name} for {manifest.dataset}; expected ImageNet's list of lines "
            f"`wnid name` at {own}; put it there and type `reidpipe prepare {manifest.typed}`"
        )


def _unpacked_or_removed(files: list[Path], manifest: Manifest, workspace: Path) -> Path:
    """``_unpacked`` for fetched files: a bad download that no checksum caught is not kept."""
    try:
        return _unpacked(files, manifest, workspace)
    except DamagedArchive as error:
        known = {wanted.name for wanted in manifest.archives if wanted.md5 or wanted.sha256}
        unchecked = [path for path in files if path.name not in known]
        for path in unchecked:
            path.unlink()
        if not unchecked:
            raise
        raise DamagedArchive(
            f"{error}; removed {', '.join(path.name for path in unchecked)}, of which no checksum "
            f"is known; type `reidpipe prepare {manifest.typed}` to fetch it again"
        ) from error
