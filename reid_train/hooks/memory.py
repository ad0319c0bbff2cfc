"""Prototypes of identities, built anew before every epoch (PCL-CLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.engine.arithmetic import full
from reid_train.engine.runtime import Runtime, gather
from reid_train.engine.task import Hook, ReidTask
from reid_train.evaluation.embeddings import embed
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory


class MemoryHook(Hook):
    """Fills the memories of the stage's losses with the training images' retrieval features: as in
    a test, without augmentation, side information or gradient, in eval mode (Li & Gong,
    arXiv 2310.17218). After every optimiser step the prototypes move. Prototypes, which are in no
    state dict of the task, are saved with the training state.
    """

    def __init__(self, *, batches: ReidBatches, runtime: Runtime, batch: int = 64) -> None:
        """batch: images per forward pass of the features."""
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be 1 or more")
        self.batches, self.runtime, self.batch = batches, runtime, batch
        self.memories: list[PrototypeMemory | CameraPrototypes] = []
        self.epoch = 0

    def begin_stage(self, task: ReidTask) -> None:
        self.memories = [
            loss
            for loss in task.active_losses()
            if isinstance(loss, PrototypeMemory | CameraPrototypes)
        ]

    def begin_epoch(self, task: ReidTask, epoch: int) -> Mapping[str, float] | None:
        features = training_features(task, self.batches.data, self.runtime, self.batch)
        return self._rebuild(features, epoch)

    def after_step(self, task: ReidTask) -> None:
        del task
        for memory in self.memories:
            memory.step()

    def _rebuild(self, features: np.ndarray, epoch: int) -> Mapping[str, float] | None:
        """Prototypes from unit features N,D of the training images, copies left out."""
        data = self.batches.data
        rows = torch.from_numpy(features)
        labels = torch.from_numpy(data.labels[: len(features)])
        for memory in self.memories:
            if isinstance(memory, CameraPrototypes):
                memory.rebuild(rows, labels, torch.from_numpy(data.cameras[: len(features)]))
            else:
                memory.rebuild(rows, labels)
        self._enter(epoch)

    def _enter(self, epoch: int) -> None:
        self.epoch = epoch
        for memory in self.memories:
            if isinstance(memory, CameraPrototypes):
                memory.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "memories": [memory.saved() for memory in self.memories]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for memory, saved in zip(self.memories, state["memories"], strict=True):
            memory.restore(saved)
        self._enter(state["epoch"])


def training_features(
    task: ReidTask, data: TrainingSet, runtime: Runtime, batch: int
) -> np.ndarray:
    """L2-normalised retrieval features N,D of the training images in their order, float32 (float64
    in ``fp64``), the same in every process: each computes a share. ``task`` is left in eval mode.
    Half precision stays outside: who is near whom is told by more digits than it has.
    """
    task.eval()
    exact = replace(runtime, precision="fp64" if runtime.precision == "fp64" else "fp32")

    def encode(images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(full(task.embed(images)), dim=1)

    count = len(data.keys)
    # Equal shares, as gathering needs; the first images fill up the last share.
    share = -(-count // runtime.world)
    own = np.arange(runtime.rank * share, (runtime.rank + 1) * share) % count
    found = embed(encode, data.images.pixels, data.places[own], runtime=exact, batch=batch)
    if runtime.world == 1:
        return found
    whole = gather(torch.from_numpy(found).to(runtime.device))
    return whole[:count].cpu().numpy()
