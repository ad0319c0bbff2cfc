"""Training batches: packed pixels beside JPEG files, PIL and torchvision, in turn, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.batches
    OMP_NUM_THREADS=1 python -m benchmarks.batches --peers ~/peers     # with CLIP-ReID/ in it

The peers' way is CLIP-ReID's training transform: a JPEG of 128x64 is read, enlarged to 256x128
(bicubic), mirrored, padded and cropped, normalised, erased with noise per pixel. With ``--peers``
their data set, their collation and timm's ``RandomErasing`` do it, else a plain implementation.
Ours makes the same changes, in three ways: what the CPU does for a device (reading, drawing,
copying into the memory that the device reads, here ordinary memory that stands for page-locked
one); the same with label maps, which no peer has; and all of it on the CPU, normalised images at
the end. Images are drawn people.

CPU seconds of all threads, median of the rounds. Limits are measured in the same process.
"""

from __future__ import annotations

import importlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peers import CLIP_REID, first_on_path
from benchmarks.row import Row, line
from pipeline.artifacts.atomic import write_json
from pipeline.datasets.index import ImageRow
from pipeline.images.packed import KEYS, PIXELS, PackedImages
from pipeline.images.pixels import resize
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from pipeline.mannequins import sample
from reid_train.data.augmentation import Augmentation
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.data.sampler import IdentitySampler
from reid_train.engine.runtime import Runtime
from reid_train.models.deployable import ReidModel
from reid_train.recipe.task import RecipeTask

SIZE, STORED = (256, 128), (128, 64)
AUGMENT = Augmentation(flip=0.5, pad=10, erase=0.5)
MEAN = STD = (0.5, 0.5, 0.5)
PER_PERSON, PEOPLE_PER_BATCH = 4, 16


class People:
    """Drawn people: files as peers read them, packed pixels and label maps as we do."""

    def __init__(self, folder: Path, count: int) -> None:
        pixels, labels = sample(0, count, STORED)
        rows = [_row(number) for number in range(count)]
        self.files = [folder / row.path for row in rows]
        for file, image in zip(self.files, pixels, strict=True):
            Image.fromarray(image).save(file, quality=95)
        height, width = SIZE
        packed = [np.asarray(resize(Image.open(f), SIZE, "bicubic")) for f in self.files]
        np.save(folder / PIXELS, np.stack(packed))
        about = {"keys": [row.key for row in rows], "size": [height, width], "filter": "bicubic"}
        write_json(folder / KEYS, about)
        with MapWriter(folder, LIP, size=SIZE) as writer:
            for row, label in zip(rows, labels, strict=True):
                label = label.repeat(2, 0).repeat(2, 1)
                sure = np.where(label > 0, 0.8, 0.4)
                writer.add(row.key, label, sure, source_size=STORED, source_digest=row.digest)
        self.rows, self.images = rows, PackedImages.open(folder)
        self.maps = LabelMapReader(folder)

    def batches(self, *, maps: bool, planar: bool) -> ReidBatches:
        data = TrainingSet(self.images, self.rows, maps=self.maps if maps else None)
        sampler = IdentitySampler(
            data.labels, ids=PEOPLE_PER_BATCH, images_per_id=PER_PERSON, seed=0
        )
        return ReidBatches(data, sampler, AUGMENT, seed=0, planar=planar)


def _row(number: int) -> ImageRow:
    name = f"{number:05d}.jpg"
    return ImageRow(
        key=name, path=name, split="train", pid=number // PER_PERSON, camid=number % 2, view=None,
        sequence="", frame=None, width=STORED[1], height=STORED[0], digest="00" * 32,
    )  # fmt: skip


def plain_peer(people: People) -> Callable[[list[int]], Any]:
    """The usual data set: a file is opened and changed on its own, then a batch is stacked."""
    from torchvision import transforms as T

    change: Any = T.Compose([*_changes(T), _erased])

    def batch(positions: list[int]) -> Tensor:
        images = [change(Image.open(people.files[p]).convert("RGB")) for p in positions]
        return torch.stack(images)

    return batch


def _changes(T: Any) -> list[Any]:
    return [
        T.Resize(SIZE, interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(0.5),
        T.Pad(10),
        T.RandomCrop(SIZE),
        T.ToTensor(),
        T.Normalize(MEAN, STD),
    ]


def _erased(image: Tensor) -> Tensor:
    """A random rectangle of noise in half of the images, as ``Augmentation`` describes it."""
    generator = np.random.default_rng(int(torch.randint(2**62, ()).item()))
    top, left, h, w, _ = AUGMENT.draw(1, SIZE, generator).boxes[0].tolist()
    image[:, top : top + h, left : left + w] = torch.randn(3, h, w)
    return image


def their_own(people: People, folder: Path) -> Callable[[list[int]], Any]:
    """CLIP-ReID's data set and collation over the same files."""
    from timm.data.random_erasing import RandomErasing
    from torchvision import transforms as T

    with first_on_path(folder / CLIP_REID):
        loader = importlib.import_module("datasets.make_dataloader_clipreid")
    erase = RandomErasing(probability=0.5, mode="pixel", max_count=1, device="cpu")
    listed = [(str(f), r.pid, r.camid, 0) for f, r in zip(people.files, people.rows, strict=True)]
    data = loader.ImageDataset(listed, T.Compose([*_changes(T), erase]))
    return lambda positions: loader.train_collate_fn([data[p] for p in positions])


class _Pixels(torch.nn.Module):
    """A trunk that is none: the images as it is given them."""

    feature_dims = {"embedding": 1}

    def forward(self, images: Tensor, **_: Any) -> dict[str, Tensor]:
        return {"embedding": images}


class Comparison:
    """The ways, each over the same number of batches."""

    def __init__(self, people: People, peers: Path | None) -> None:
        self.people = people
        self.runtime = Runtime.create("cpu")
        model = ReidModel(_Pixels(), mean=MEAN, std=STD, input_size=SIZE)
        self.task = RecipeTask(model, {}, {})
        peer = plain_peer(people) if peers is None else their_own(people, peers)
        self.chosen = people.batches(maps=False, planar=False).sampler.epoch(0).tolist()
        self.images = sum(map(len, self.chosen))
        self.ways: dict[str, Callable[[], Any]] = {
            "peer": lambda: [peer(positions) for positions in self.chosen],
            "device": self._through(False, None),
            "maps": self._through(True, None),
            "cpu": self._through(False, self._all),
            "cpu with maps": self._through(True, self._all),
        }
        self.ways |= limits(self.images)

    def _through(self, maps: bool, use: Callable[[dict[str, Tensor]], Any] | None) -> Any:
        source = self.people.batches(maps=maps, planar=use is not None)

        def run() -> None:
            for batch in source.epoch(0, 0, 1):
                if use is not None:
                    use(batch)

        return run

    def _all(self, batch: dict[str, Tensor]) -> None:
        self.task.model.features(self.task.pixels(self.runtime.move(batch)))

    def seconds(self, rounds: int) -> dict[str, float]:
        """CPU seconds an image of each way; a first round, which reads files, is not counted."""
        taken: dict[str, list[float]] = {name: [] for name in self.ways}
        for number in range(rounds + 1):
            for name, run in self.ways.items():
                begin = time.process_time()
                run()
                if number:
                    taken[name].append((time.process_time() - begin) / self.images)
        return {name: statistics.median(values) for name, values in taken.items()}


def limits(images: int) -> dict[str, Callable[[], Any]]:
    """What no way can do without: pixels copied, noise drawn, images normalised."""
    one = np.zeros((*SIZE, 3), np.uint8)
    batch = torch.zeros(PER_PERSON * PEOPLE_PER_BATCH, 3, *SIZE)
    draws = AUGMENT.draw(images, SIZE, np.random.default_rng(1))
    values = np.empty((draws.filled, 3), np.float32)
    rows = np.empty((len(batch), *one.shape), np.uint8)

    def copied() -> None:
        for number in range(images):
            rows[number % len(rows)] = one

    def normalised() -> None:
        for _ in range(images // len(batch)):
            (batch - 0.5).div_(0.5)

    return {
        "limit: copied": copied,
        "limit: noise": lambda: draws.filling(values),
        "limit: normalised": normalised,
    }


def measured(peers: Path | None, images: int, rounds: int) -> tuple[dict[str, float], float]:
    """CPU seconds an image by way, and the peak of memory in MiB over what it began with."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        comparison = Comparison(People(Path(name), images), peers)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = comparison.seconds(rounds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, max(peak - before, 0) / 1024


def rows(peers: Path | None = None, images: int = 256, rounds: int = 3) -> Iterable[Row]:
    """Four ratios, and what one core feeds."""
    return told(*measured(peers, images, rounds), peers)


def told(seconds: dict[str, float], memory: float, peers: Path | None) -> Iterable[Row]:
    who = "CLIP-ReID's own" if peers is not None else "JPEG, PIL, torchvision"
    cost = {name: 1e6 * value for name, value in seconds.items()}
    copied, noise, normalised = (cost[f"limit: {n}"] for n in ("copied", "noise", "normalised"))
    floor = copied + noise
    for way, goal, least in (
        ("device", "8x", floor),
        ("maps", "6x", floor + copied * 2 / 3),
        ("cpu", "3x", floor + normalised),
        ("cpu with maps", "3x", floor + copied * 2 / 3 + normalised),
    ):
        yield Row(
            f"a training batch of 64, 256x128, {_NAMES[way]}",
            seconds["peer"] / seconds[way],
            "x",
            f"faster than {who}",
            goal,
            f"noise {noise:.0f}, copying {copied:.0f}, normalising {normalised:.0f} us an image: "
            f"{cost['peer'] / least:.0f}x",
            memory,
        )
    yield Row(
        "images that one CPU core feeds a device",
        1 / seconds["device"],
        "a second",
        f"beside {1 / seconds['peer']:.0f} of {who}",
        "10000",
        f"noise and copying alone: {1e6 / floor:.0f}",
        memory,
    )


_NAMES = {
    "cpu with maps": "on the CPU, with label maps",
    "device": "for a device",
    "maps": "for a device, with label maps",
    "cpu": "on the CPU",
}


@click.command()
@click.option("--peers", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--images", default=512, help="drawn, a multiple of 64; all of them in every round")
@click.option("--rounds", default=7)
def main(peers: Path | None, images: int, rounds: int) -> None:
    """Print microseconds of CPU an image for every way, and the rows."""
    seconds, memory = measured(peers, images, rounds)
    for name, value in seconds.items():
        ratio = f"{seconds['peer'] / value:6.2f}x"
        click.echo(f"{name:20s} {1e6 * value:8.1f} us an image {1 / value:8.0f} a second {ratio}")
    for row in told(seconds, memory, peers):
        click.echo(line(row))


if __name__ == "__main__":
    main()
