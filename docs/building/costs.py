"""What a recipe costs on a GPU, estimated: operations counted by torch, memory by what it keeps for
the backward pass. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.datasets.catalogue import load_manifest
from reid_train.classify.recipe import LearnerRecipe
from reid_train.models.deployable import build_model
from reid_train.recipe.assembly import model_spec
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.schema import Features, Recipe, Stage

GPU = "NVIDIA A100"
# Dense peak of its data sheet, and the share of it that training is taken to reach.
PEAK = {"bf16": 312e12, "fp32": 19.5e12}
SHARE = 0.35
# Floating-point operations of one position in CLIP's text tower (width 512, 12 blocks): a product
# of matrices is 2 per weight. Its prompts end at these positions, and the tower stops there.
POSITION = 24 * 512**2 * 12
PROMPT, PART = 12, 15
PARTS = 20 / 4  # prompts of parts per image: 20 of an identity with four images in the batch
SCHP = 153e9  # SCHP's ResNet-101 at 473x473, per image
LAUNCH = 0.01  # seconds that a step takes at least, whatever it computes
OVERHEAD = 1e9  # CUDA itself, kernels, batches on their way
ADAM, SGD = 16, 12  # bytes per parameter: weight, gradient, one or two moments, in float32
CLASSIFIED = {"imagenet": (1000, 50_000), "oxford_pets": (37, 3669), "flowers102": (102, 2463)}


@dataclass(frozen=True)
class Cost:
    """Bytes of GPU memory, and of everything (maps, prompts, training, one evaluation) the
    operations and the number of steps that they are done in.
    """

    memory: float
    parts: tuple[tuple[float, float], ...]
    precision: str

    @property
    def hours(self) -> float:
        """Of each part as long as its operations take, or its steps at least."""
        rate = SHARE * PEAK[self.precision]
        return sum(max(done / rate, steps * LAUNCH) for done, steps in self.parts) / 3600


def network(name: str) -> tuple[float, float, int]:
    """Operations of one image forward, numbers kept for backward per image, and parameters, of a
    recipe's network.
    """
    spec = model_spec(load_recipe(name))
    spec["options"] = {k: v for k, v in spec["options"].items() if v != "dataset"}
    colours = {"mean": [0.5] * 3, "std": [0.5] * 3}  # no matter
    return _counted(json.dumps({**spec, **colours}, sort_keys=True))


@cache
def _counted(text: str) -> tuple[float, float, int]:
    spec = json.loads(text)
    with torch.device("meta"):
        model = build_model(spec).train()
        images = torch.zeros(2, 3, *spec["input_size"])
    weights = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in weights:
            kept[id(base)] = base
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counted, hooks:
        model.trunk(images)
    numbers = sum(tensor.numel() for tensor in kept.values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return counted.get_total_flops() / 2, numbers / 2, parameters


def images_of(dataset: str) -> tuple[int, int]:
    """Images of the training split and of query and gallery, as the manifest has them."""
    counts = load_manifest(dataset).counts

    def number(split: Literal["train", "query", "gallery"]) -> int:
        found = getattr(counts.get(split), "images", None)
        return found.one_of[0] if found is not None else 0

    return number("train"), number("query") + number("gallery")


def of_recipe(recipe: Recipe, dataset: str) -> Cost:
    """Of one training and one evaluation."""
    train, test = images_of(dataset)
    forward, kept, parameters = network(recipe.name)
    precision = "fp32" if recipe.precision == "fp32" else "bf16"
    parts = [(forward * test * (2 if recipe.test.flip else 1), 0.0)]
    batch = 1
    for stage in recipe.image_stages:
        seen, batch = _seen(stage, train)
        again = train if stage.hooks else 0  # prototypes are built anew in every epoch
        steps = stage.epochs * seen / batch
        parts.append((stage.epochs * forward * (3 * seen + again), steps))
    if recipe.prompt_stages:
        encoder = "clip-reid-rn50" if recipe.model.teacher else recipe.name
        parts.append((network(encoder)[0] * train, 0.0))
    for stage in recipe.prompt_stages:
        assert isinstance(stage.data, Features)
        positions = PARTS * PART if stage.data.parts else PROMPT
        steps = stage.epochs * train / stage.data.batch
        parts.append((2 * POSITION * positions * train * stage.epochs, steps))
    if recipe.reads_maps:
        parts.append((SCHP * (train + test), 0.0))
    moments = SGD if recipe.image_stages[-1].optimiser.kind == "sgd" else ADAM
    width = 4 if precision == "fp32" else 2
    memory = parameters * moments + kept * batch * width + OVERHEAD
    return Cost(memory, tuple(parts), precision)


def _seen(stage: Stage, train: int) -> tuple[int, int]:
    """Images of an epoch, and of a batch."""
    data: Any = stage.data
    if data.kind == "identity-batches":
        batch = data.ids * data.images_per_id
        return (data.iterations * batch if data.iterations else train), batch
    return train * (2 if data.flipped_copies else 1), data.batch


def of_learner(recipe: LearnerRecipe, dataset: str, split: str, shots: int | None) -> Cost:
    """Of one seed on ViT-B/16 at 224x224, with a test on that dataset."""
    everything, test = CLASSIFIED[dataset]
    classes = (everything + 1) // 2 if split == "base-new" else everything
    forward = 35e9  # 197 positions, as counted for one image
    text = POSITION * (28 if recipe.n_ctx == 16 else 16)
    sentences = everything * (test if recipe.learner == "cocoop" else 1)
    parts = [(forward * test + text * sentences, 0.0)]
    kept = 0.0
    if recipe.training is not None and shots:
        batch = recipe.training.batch
        epochs = recipe.training.epochs_for(dataset, shots)
        images = classes * shots
        # CoCoOp has sentences of every image's own; the others one set per step.
        steps, sets = images / batch, batch if recipe.learner == "cocoop" else 1
        prompted = recipe.learner == "maple"  # the one whose image tower is trained through
        seen = forward * images * (2 if prompted else 1)
        parts.append((epochs * (seen + 2 * text * classes * steps * sets), epochs * steps))
        # Korthikanti et al. 2022: 34 bytes per position, width and block, in half precision.
        kept = 34 * 12 * (classes * sets * text / POSITION * 512 + prompted * batch * 199 * 768)
    memory = 150e6 * 4 + kept + OVERHEAD
    return Cost(memory, tuple(parts), "bf16")
