"""The orders that galleries of few shots are drawn in: published ones, or ours, with seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.manifest import Orders
from pipeline.datasets.protocols import DRAWN_BY, PLACES
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    import numpy as np

    from pipeline.datasets.layouts.files import Reading

# (camera, identity, number of images) -> places (trials, images)
Draw = Callable[[int, int, int], "np.ndarray"]
# In the root, the archive's folder of splits or the one of the authors' code.
FOLDERS = ("", "exp", "data_split")


def store_orders(reading: Reading, orders: Orders) -> None:
    """Give every gallery row its places, trial by trial, and who drew them.

    Ours depend on the seed, the camera, the identity and its sorted paths only. Raises
    ReidpipeError for a published file that is damaged or orders another number of images.
    """
    path = published_draws(reading.root, orders, reading.lists)
    draw = _seeded(orders.seeds) if path is None else _permutations(path, len(orders.seeds))
    author = (
        f"seeds {orders.seeds[0]} to {orders.seeds[-1]} of reidpipe"
        if path is None
        else (path.name)
    )
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, row in enumerate(reading.rows):
        if row.split == "gallery" and row.pid is not None and row.camid is not None:
            groups[row.pid, row.camid].append(number)
    for (pid, camid), numbers in sorted(groups.items()):
        numbers.sort(key=lambda number: reading.rows[number].path)
        places = draw(camid, pid, len(numbers))
        for column, number in enumerate(numbers):
            row = reading.rows[number]
            drawn = {PLACES: " ".join(map(str, places[:, column].tolist())), DRAWN_BY: author}
            reading.rows[number] = replace(row, extra={**row.extra, **drawn})
    if orders.published is not None and path is None:
        reading.notes.append(
            f"galleries are drawn by {author}: {orders.published}, which has the official draws, "
            "was not found"
        )
    elif path is not None:
        reading.notes.append(f"galleries are drawn as {path.name} says")


def published_draws(root: Path, orders: Orders, lists: Path | None) -> Path | None:
    """The file of official draws below ``root``, else among fetched ``lists``; None: nowhere."""
    if orders.published is None:
        return None
    places = [root / folder / orders.published for folder in FOLDERS]
    if lists is not None:
        places.append(lists / orders.published)
    return next((place for place in places if place.is_file()), None)


def _seeded(seeds: Sequence[int]) -> Draw:
    import numpy as np

    def draw(camid: int, pid: int, count: int) -> np.ndarray:
        # Of each person and camera by itself: a copy that lacks somebody draws the others alike.
        generators = (np.random.default_rng((seed, camid, pid)) for seed in seeds)
        return np.stack([generator.permutation(count) for generator in generators])

    return draw


def _permutations(path: Path, trials: int) -> Draw:
    """Draws of a file whose one array holds, by camera and identity, permutations (trials, n) of
    1..n: the i-th place is taken by the image of that number.
    """
    import numpy as np

    name = path.stem
    cameras = read_mat(path, (name,))[name].ravel()

    def draw(camid: int, pid: int, count: int) -> np.ndarray:
        people = np.asarray(cameras[camid]).ravel() if camid < len(cameras) else ()
        order = np.asarray(people[pid - 1]) if 0 < pid <= len(people) else np.empty((0, 0))
        if order.ndim != 2 or len(order) < trials or order.shape[1] != count:
            shape = "x".join(map(str, order.shape))
            raise ReidpipeError(
                f"{path}: found draws of {shape} for identity {pid} under camera {camid + 1}; "
                f"expected {trials} draws of its {count} images; unpack the dataset again, or take "
                "the file away to draw anew"
            )
        order = order[:trials].astype(np.int64) - 1
        if (np.sort(order, axis=1) != np.arange(count)).any():
            raise ReidpipeError(
                f"{path}: found no permutation of 1 to {count} for identity {pid} under camera "
                f"{camid + 1}; expected one per trial; fetch the file again"
            )
        return np.argsort(order, axis=1)

    return draw
