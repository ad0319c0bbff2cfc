"""Trains the toy, a recipe's network, or one on clusters, under torchrun:
``parallel.py toy|recipe|clusters FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.datasets.index import read_index
from pipeline.images.packed import PackedImages
from reid_train.engine.loop import train
from reid_train.engine.runtime import Runtime, leave
from reid_train.engine.task import ReidTask
from reid_train.hooks.cluster import ClusterHook
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.stages import build_stages, training_set
from reid_train.recipe.task import RecipeTask
from tests.reid_train.people import people
from tests.reid_train.toy import Toy, toy_stages

# Plain gradient steps: Adam turns the last bit of a gradient near zero into a whole step.
PLAIN = {
    "stages.0.epochs": "2",
    "stages.0.data": "{kind: identity-batches, ids: 4, images_per_id: 2, "
    "augment: {flip: 0.5, pad: 4, brightness: 0.2, erase: 0.5}}",
    "stages.0.trains": "{'*': 1.0, 'model.trunk.stem.*': 0.0}",
    "stages.0.optimiser": "{kind: sgd, lr: 0.03, weight_decay: 1.0e-4}",
}

CLUSTERS = {
    "stages.0.epochs": "2",
    "stages.0.data": "{kind: identity-batches, ids: 4, images_per_id: 4, iterations: 4, "
    "augment: {flip: 0.5, pad: 5, erase: 0.3}}",
    "stages.0.hooks.0.options": "{eps: 0.5, min_samples: 3, k1: 8, k2: 2, batch: 10}",
    "stages.0.losses": "[{loss: prototypes, on: embedding}, {loss: camera-prototypes, "
    "on: embedding, weight: 0.5, options: {inter_from: 1}}]",
    "stages.0.optimiser": "{kind: sgd, lr: 3.0e-4, weight_decay: 5.0e-4}",
}
RECIPES = {"recipe": ("baseline-tiny", PLAIN), "clusters": ("pcl-clip-usl-tiny", CLUSTERS)}


class FrozenNorms(RecipeTask):
    """Batch norm of the trunk sees a share of the batch on CPUs: here it uses its statistics."""

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.eval()
        return self


class NotedClusters(ClusterHook):
    """Keeps the labels it gave the images in each epoch."""

    noted: list[Tensor]

    def begin_epoch(self, task: ReidTask, epoch: int) -> Mapping[str, float]:
        figures = super().begin_epoch(task, epoch)
        self.noted.append(torch.from_numpy(self.batches.data.labels.copy()))
        return figures


def main(what: str, folder: str) -> None:
    runtime = Runtime.create("cpu", threads=1, join=True)
    noted: list[NotedClusters] = []
    if what == "toy":
        task, stages = Toy(norm=True), toy_stages()
    else:
        recipe, place = load_recipe(*RECIPES[what]), Path(folder).parent / "people"
        if what == "clusters":
            images, rows = PackedImages.open(place), read_index(place).split("train")
            start = str(clip_tiny.FILES[clip_tiny.NAME])
        else:
            images, rows, _ = people(place, size=recipe.input.size)
            start = "none"
        data = training_set(recipe, images, rows)
        task = build_task(recipe, classes=len(data.pids), pretrained=start)
        task.__class__ = FrozenNorms
        stages = build_stages(recipe, data, seed=0, runtime=runtime)
        for hook in stages[0].hooks:
            hook.__class__ = NotedClusters
            assert isinstance(hook, NotedClusters)
            hook.noted = []
            noted.append(hook)
    train(task, stages, runtime=runtime, folder=folder, seed=3)
    for hook in noted:
        torch.save(torch.stack(hook.noted), Path(folder) / f"labels-{runtime.rank}.pt")
    if runtime.main:
        torch.save(task.state_dict(), Path(folder) / "final.pt")
    leave()
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    (Path(folder) / f"threads-{runtime.rank}.txt").write_text("\n".join(names))


if __name__ == "__main__":
    main(*sys.argv[1:])
