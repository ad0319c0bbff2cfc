"""Prompt learning as a task of the one loop: a frozen CLIP, a learner, cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.images.decoding import Decoding
from pipeline.images.originals import Original
from reid_train.data.prefetch import prefetch
from reid_train.data.sampler import ShuffledSampler
from reid_train.data.views import RandomView, read_views
from reid_train.engine.arithmetic import full
from reid_train.engine.runtime import derive_seed
from reid_train.engine.task import Losses, ReidTask, Report, share
from reid_train.models.clip.classifier import ClipClassifier

# The rows of some positions of the training set, by a generator that is theirs alone.
Read = Callable[[np.ndarray, np.random.Generator], Tensor]


class ClassificationTask(ReidTask):
    """The learner of a classifier, whose CLIP stays as it is and in eval mode.

    A batch has ``labels`` int64 N and ``images`` uint8 N,3,H,W RGB, or ``features`` float32 N,D of
    the frozen image tower. Loss: cross-entropy of the logits (all learners' own); report: accuracy.
    """

    def __init__(self, model: ClipClassifier) -> None:
        super().__init__()
        self.prompt_learner = model.prompt_learner
        # Not a submodule: what is frozen has no place in the training state.
        self._model = (model,)

    @property
    def model(self) -> ClipClassifier:
        return self._model[0]

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        if "features" in batch:
            logits = self.model.compare(batch["features"])
        else:
            logits = self.model(batch["images"].to(self.model.mean.dtype) / 255)
        labels = batch["labels"]
        right = (logits.argmax(1) == labels).float().mean()
        return {"cross-entropy": F.cross_entropy(full(logits), labels)}, {"accuracy": right}


class ShotBatches:
    """A ``BatchSource``: the images of a draw, every one once per epoch in random order; what does
    not fill a last batch is left out, and a draw smaller than a batch is one batch.

    ``read`` gives what the rows are called by ``name``: ``images`` or ``features``.
    """

    def __init__(
        self, read: Read, labels: Sequence[int], *, name: str, batch: int, seed: int
    ) -> None:
        self.read, self.name, self.seed = read, name, seed
        self.labels = torch.tensor(list(labels))
        self.sampler = ShuffledSampler(len(labels), batch=min(batch, len(labels)), seed=seed)

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        return prefetch(self._batches(epoch, share(self.sampler.batch, 1, rank, world)))

    def _batches(self, epoch: int, rows: slice) -> Iterator[dict[str, Tensor]]:
        for step, positions in enumerate(self.sampler.epoch(epoch)):
            mine = positions[rows]
            seed = derive_seed(self.seed, "views", epoch, step, rows.start)
            values = self.read(mine, np.random.default_rng(seed))
            yield {self.name: values, "labels": self.labels[torch.from_numpy(mine)]}


def features_of(features: Tensor) -> Read:
    """Rows of a table N,D."""
    return lambda positions, _: features[torch.from_numpy(positions)]


def images_of(
    files: Sequence[Path | Original],
    size: tuple[int, int],
    view: RandomView,
    workers: int,
    decoding: Decoding = "as-seen",
) -> Read:
    """Random views of pictures, decoded whenever they are asked for."""

    def read(positions: np.ndarray, generator: np.random.Generator) -> Tensor:
        chosen = [files[position] for position in positions]
        return load(chosen, random=view, generator=generator)

    load = partial(read_views, size=size, kind=view.test, workers=workers, decoding=decoding)
    return read
