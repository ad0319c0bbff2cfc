"""The task of every recipe: a model, training-only heads, and per stage the losses on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from reid_train.data.augmentation import colour, erase
from reid_train.data.buffers import Buffers
from reid_train.data.cells import CellGrid, to_cells
from reid_train.engine.runtime import gather, on_cpu
from reid_train.engine.task import Losses, ReidTask, Report
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory
from reid_train.models.deployable import ReidModel
from reid_train.models.text_table import TextTable


@dataclass(frozen=True)
class Term:
    """A loss, the outputs it is called with, and what it counts.

    A loss is called as ``loss(*outputs, labels)``; one with an attribute ``takes``, with these
    entries of the batch instead of the labels.
    """

    name: str
    on: tuple[str, ...]
    weight: float
    loss: nn.Module


class RecipeTask(ReidTask):
    """Model, heads and the losses of every stage.

    Outputs have names: features of the trunk, heads, and with label maps and texts ``cells`` (the
    label map on the grid of the dense map) and ``part_texts`` (rows of each image's identity).
    Features N,D are gathered over the processes before heads and losses: both see the global batch
    (``batch`` as described in ``reid_train.data.dataset.ReidBatches``). Maps stay where they are:
    losses on them are means over images, which the averaging of gradients completes.
    """

    def __init__(
        self,
        model: ReidModel,
        heads: Mapping[str, tuple[str, nn.Module]],
        terms: Mapping[str, list[Term]],
        texts: TextTable | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """heads: name -> (output it reads, module). terms: stage name -> losses. texts: rows of
        the identities and their parts. grid: (h, w) of the dense map, for ``cells``."""
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict({name: head for name, (_, head) in heads.items()})
        self.reads = {name: on for name, (on, _) in heads.items()}
        self.classifiers = {name for name, (_, h) in heads.items() if not hasattr(h, "out_dim")}
        self.terms = dict(terms)
        # Modules of the task, so that they follow its device and mode; they have no parameters.
        self.memories = nn.ModuleDict(
            {
                f"{stage}/{term.name}": term.loss
                for stage, listed in terms.items()
                for term in listed
                if isinstance(term.loss, PrototypeMemory | CameraPrototypes)
            }
        )
        self.texts = texts
        self.cell_grid = None if grid is None else CellGrid.even(model.input_size, grid)
        self.active: list[Term] = []
        self.room = Buffers()

    def begin_stage(self, name: str) -> None:
        self.active = self.terms[name]

    def embed(self, images: Tensor) -> Tensor:
        return self.model(images)

    def active_losses(self) -> list[nn.Module]:
        return [term.loss for term in self.active]

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        outputs: dict[str, Any] = {}
        features = self.model.features(
            self.pixels(batch), camids=batch.get("camids"), views=batch.get("views")
        )
        # What losses compare features with: of the global batch, as the features are.
        taken = {name for term in self.active for name in getattr(term.loss, "takes", ())}
        whole = {name: gather(batch[name]) for name in sorted({"labels", *taken} & batch.keys())}
        losses: Losses = {}
        report: Report = {}
        for term in self.active:
            given = [self._output(name, features, batch, outputs) for name in term.on]
            given += [whole[entry] for entry in getattr(term.loss, "takes", ("labels",))]
            losses[term.name] = term.weight * term.loss(*given)
            head = term.on[0]
            if head in self.classifiers and given[0].ndim == 2 and f"accuracy/{head}" not in report:
                hits = given[0].detach().argmax(1) == whole["labels"]
                report[f"accuracy/{head}"] = hits.float().mean()
        return losses, report

    def _output(
        self,
        name: str,
        features: Mapping[str, Any],
        batch: Mapping[str, Tensor],
        outputs: dict[str, Any],
    ) -> Any:
        if name not in outputs:
            if name in self.reads:
                read = self._output(self.reads[name], features, batch, outputs)
                outputs[name] = self.heads[name](read)
            elif name == "cells":
                assert self.cell_grid is not None and self.texts is not None
                outputs[name] = to_cells(
                    batch["label_maps"],
                    batch["confidence"],
                    self.cell_grid,
                    parts=self.texts.part_count,
                )
            elif name == "part_texts":
                assert self.texts is not None
                outputs[name] = self.texts.parts_of(batch["labels"])
            elif isinstance(features[name], Tensor):
                outputs[name] = gather(features[name])
            else:
                outputs[name] = features[name]
        return outputs[name]

    def pixels(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's images N,3,H,W in 0..1, with the changes that are made to floats."""
        images = self._floats(batch["images"])
        if "factors" in batch:
            images = colour(images, batch["factors"])
        if "erased" in batch:
            mean, std = self.model.mean, self.model.std
            images = erase(images, batch["erased"], batch["filling"], mean, std)
        return images

    def _floats(self, images: Tensor) -> Tensor:
        """Bytes as the model's type in 0..1, in the same order of memory. On a CPU in memory that
        is used again, and in one pass (torch would make two): a batch is larger than its caches.
        """
        dtype = self.model.mean.dtype
        if not on_cpu(images.device):
            return images.to(dtype).div_(255)
        planar = images.is_contiguous()
        stored = images if planar else images.permute(0, 2, 3, 1)
        floats = self.room(stored.shape, dtype)
        found = floats.numpy()
        np.divide(stored.numpy(), found.dtype.type(255), out=found, dtype=found.dtype)
        return floats if planar else floats.permute(0, 3, 1, 2)
