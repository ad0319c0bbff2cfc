"""CUHK03 from its original archive: one MATLAB file of crops, one of the new protocol."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.machine import tells_of_content

CONFIG = "cuhk03_new_protocol_config_{variant}.mat"
VIEW_CELLS = 5
LARGEST = 4096  # side of a crop
_NAME = re.compile(r"\d{1,4}_\d{1,6}_\d{1,2}_\d{1,4}\.png")


def read_cuhk03_mat(reading: Reading, output: Path) -> None:
    """Extract the crops to PNG under ``output`` and split them by the 767/700 protocol.

    ``cuhk-03.mat`` is MATLAB v7.3, read with h5py, where every array is transposed; the protocol
    files are v5, read with scipy, their indices count from 1. Names are
    ``pair_person_view_index.png``; a person's number restarts in each camera pair, so the identity
    is pair * 1000 + person. Existing PNG files are kept: a second extraction costs nothing.
    """
    variant = reading.manifest.variant or "detected"
    source = reading.place("cuhk03_release/cuhk-03.mat") or reading.place("cuhk-03.mat")
    config = reading.place(CONFIG.format(variant=variant))
    assert source is not None and config is not None
    folder = output / variant
    names, splits = _protocol(config)
    folder.mkdir(parents=True, exist_ok=True)
    written = _extract(source, variant, folder, names)
    lacking = [name for name in names if name not in written]
    if lacking:
        raise ReidpipeError(
            f"{source}: found no image for {len(lacking)} entries of {config.name}, first "
            f"{lacking[0]}; expected cuhk-03.mat of the {variant} release"
        )
    for split, indices in splits.items():
        for index in indices:
            name = names[index]
            pair, person, view, _ = name.removesuffix(".png").split("_")
            reading.rows.append(
                LayoutRow(
                    path=f"{variant}/{name}",
                    split=split,
                    pid=int(pair) * 1000 + int(person),
                    camid=int(view) - 1,
                )
            )
    reading.root = output


def _protocol(path: Path) -> tuple[list[str], dict[str, list[int]]]:
    """File names in the order of the protocol file, and 0-based indices per split."""
    content = read_mat(path, ("filelist", "train_idx", "query_idx", "gallery_idx"))
    try:
        names = [str(np.asarray(cell).item()) for cell in content["filelist"].ravel()]
        splits = {
            split: [int(i) - 1 for i in content[f"{split}_idx"].ravel()]
            for split in ("train", "query", "gallery")
        }
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ReidpipeError(
            f"{path}: found other than names and their numbers ({str(error)[:80]}); fetch it again"
        ) from error
    others = [name for name in names if not _NAME.fullmatch(name)]
    if others:
        raise ReidpipeError(
            f"{path}: found the name {others[0][:60]!r}; expected pair_person_view_index.png; "
            "fetch it again"
        )
    if any(not 0 <= i < len(names) for indices in splits.values() for i in indices):
        raise ReidpipeError(
            f"{path}: found an index outside its {len(names)} names; fetch it again"
        )
    return names, splits


def _extract(source: Path, variant: str, folder: Path, wanted: list[str]) -> set[str]:
    import h5py
    from PIL import Image

    needed, present = set(wanted), set()
    try:
        opened = h5py.File(source, "r")
    except OSError as error:
        raise ReidpipeError(
            f"{source}: found no MATLAB v7.3 (HDF5) file; expected cuhk-03.mat of "
            "cuhk03_release.zip; unpack it again"
        ) from error
    with opened as file, _told(source):
        if variant not in file:
            raise ReidpipeError(
                f"{source}: found no '{variant}'; expected cuhk-03.mat with detected and labeled"
            )
        pairs = _references(_own(file, variant))
        for pair_number, reference in enumerate(pairs, start=1):
            # One row per person and ten columns in MATLAB: stored as (10, persons).
            cells = np.asarray(_own(file, reference)).T  # persons, 10
            for person_number, person in enumerate(cells, start=1):
                for cell, image_reference in enumerate(person):
                    name = (
                        f"{pair_number}_{person_number:03d}_{cell // VIEW_CELLS + 1}"
                        f"_{cell + 1:02d}.png"
                    )
                    if name not in needed:
                        continue
                    pixels = _pixels(file, image_reference)
                    if pixels is None:
                        continue
                    present.add(name)
                    if not (folder / name).is_file():
                        with replacing(folder / name) as temporary:
                            Image.fromarray(pixels).save(temporary, format="PNG")
    return present


@contextlib.contextmanager
def _told(source: Path) -> Iterator[None]:
    """HDF5 reports damage as nearly any error, depending on where it strikes."""
    try:
        yield
    except (
        OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and not tells_of_content(error):
            raise
        raise ReidpipeError(
            f"{source}: found other than the cells of cuhk-03.mat ({str(error)[:120]}); expected "
            "the file of cuhk03_release.zip; unpack it again"
        ) from error


def _own(file: Any, place: Any) -> Any:
    """A dataset that lies in the file itself: links to others would be followed without a word."""
    import h5py

    outside = isinstance(place, str) and not isinstance(
        file.get(place, getlink=True), h5py.HardLink
    )
    found = None if outside else file[place]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or (
        (found.size or 0) > LARGEST**2 * 3
    ):  # fmt: skip
        raise ValueError(f"{place} that is no dataset of its own")
    return found


def _references(dataset: Any) -> list[Any]:
    return list(np.asarray(dataset).ravel())


def _pixels(file: Any, reference: Any) -> np.ndarray | None:
    """uint8 H, W, 3 RGB of one cell; None for an empty one."""
    if not reference:
        return None
    stored = _own(file, reference)
    if max(stored.shape, default=0) > LARGEST:
        raise ValueError(f"an image of {stored.shape}")
    # MATLAB marks an empty cell by an attribute and stores its shape in place of data.
    if stored.attrs.get("MATLAB_empty", 0) or stored.ndim != 3 or stored.size == 0:
        return None
    return np.ascontiguousarray(np.asarray(stored).T.astype(np.uint8))  # 3, W, H -> H, W, 3
