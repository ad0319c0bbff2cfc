"""CUHK03 from its original archive: one MATLAB file of crops, one of the new protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.terminal.errors import ReidpipeError

CONFIG = "cuhk03_new_protocol_config_{variant}.mat"
VIEW_CELLS = 5


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
    names = [str(np.asarray(cell).item()) for cell in content["filelist"].ravel()]
    splits = {
        split: [int(i) - 1 for i in content[f"{split}_idx"].ravel()]
        for split in ("train", "query", "gallery")
    }
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
    with opened as file:
        if variant not in file:
            raise ReidpipeError(
                f"{source}: found no '{variant}'; expected cuhk-03.mat with detected and labeled"
            )
        pairs = _references(file[variant])
        for pair_number, reference in enumerate(pairs, start=1):
            # One row per person and ten columns in MATLAB: stored as (10, persons).
            cells = np.asarray(file[reference]).T  # persons, 10
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


def _references(dataset: Any) -> list[Any]:
    return list(np.asarray(dataset).ravel())


def _pixels(file: Any, reference: Any) -> np.ndarray | None:
    """uint8 H, W, 3 RGB of one cell; None for an empty one."""
    if not reference:
        return None
    stored = file[reference]
    # MATLAB marks an empty cell by an attribute and stores its shape in place of data.
    if stored.attrs.get("MATLAB_empty", 0) or stored.ndim != 3 or stored.size == 0:
        return None
    return np.ascontiguousarray(np.asarray(stored).T.astype(np.uint8))  # 3, W, H -> H, W, 3
