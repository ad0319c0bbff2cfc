"""Trains the toy, or a recipe's network, under torchrun: ``parallel.py toy|recipe FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from reid_train.build import RecipeTask, build_stages, build_task, fresh, training_set
from reid_train.loop import train
from reid_train.recipe import load_recipe
from reid_train.runtime import Runtime, leave
from tests.train.people import people
from tests.train.toy import Toy, toy_stages

# Plain gradient steps: Adam turns the last bit of a gradient near zero into a whole step.
PLAIN = {
    "stages.0.epochs": "2",
    "stages.0.data": "{kind: identity-batches, ids: 4, images_per_id: 2, "
    "augment: {flip: 0.5, pad: 4, brightness: 0.2, erase: 0.5}}",
    "stages.0.trains": "{'*': 1.0, 'model.trunk.stem.*': 0.0}",
    "stages.0.optimiser": "{kind: sgd, lr: 0.03, weight_decay: 1.0e-4}",
}


class FrozenNorms(RecipeTask):
    """Batch norm of the trunk sees a share of the batch on CPUs: here it uses its statistics."""

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.eval()
        return self


def main(what: str, folder: str) -> None:
    runtime = Runtime.create("cpu", threads=1, join=True)
    if what == "toy":
        task, stages = Toy(norm=True), toy_stages()
    else:
        recipe = load_recipe("baseline-tiny", PLAIN)
        images, rows, _ = people(Path(folder).parent / "people", size=recipe.input.size)
        data = training_set(recipe, images, rows)
        task = fresh(0, lambda: build_task(recipe, classes=len(data.pids)))
        task.__class__ = FrozenNorms
        stages = build_stages(recipe, data, seed=0)
    train(task, stages, runtime=runtime, folder=folder, seed=3)
    if runtime.main:
        torch.save(task.state_dict(), Path(folder) / "final.pt")
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
