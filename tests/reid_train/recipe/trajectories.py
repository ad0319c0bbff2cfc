"""A few steps of a published recipe, on weights, images and batches that the authors' code was
recorded on (``golden/README.md`` in the shared folder, "Recorded training trajectories").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.artifacts.atomic import write_json
from pipeline.datasets.index import ImageRow
from pipeline.images.packed import KEYS, PIXELS, PackedImages
from reid_train.data.augmentation import Augmentation
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import ReidTask, Stage
from reid_train.losses.memory import PrototypeMemory
from reid_train.models.text_table import TextTable
from reid_train.recipe.assembly import build_task, build_terms
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.schema import Recipe
from reid_train.recipe.stages import build_stage, build_stages
from reid_train.recipe.texts import build_texts, tower_sizes
from tests.reid_train.stepping import steps_of

TOKENS = "text_encoder.token_embedding.weight"
PEOPLE, SHOTS, CAMERAS, SIZE = 8, 8, 6, (128, 64)
EPOCHS = 2
CLIP = {"stages.image.data.ids": "4", "stages.image.data.images_per_id": "4"}
SIMPLE = {"stages.0.data.ids": "4", "stages.0.data.images_per_id": "4"}
# File without "trajectory_" -> recipe and what its few identities ask for.
RECIPES = {
    "clipreid_vit_stage2": ("clip-reid-vit", CLIP),
    "clipreid_vit_stage2_sie_olp": (
        "clip-reid-vit-sie-olp",
        {**CLIP, "model.options.cameras": str(CAMERAS)},
    ),
    "clipreid_rn50_stage2": ("clip-reid-rn50", CLIP),
    "pcl_vit": ("pcl-clip", {**CLIP, "stages.image.data.iterations": "2"}),
    "simple_ce_triplet": ("resnet50-triplet", SIMPLE),
    "simple_ce_contrastive": ("resnet50-contrastive", SIMPLE),
    "simple_ce_cosface": ("resnet50-cosface", SIMPLE),
    "simple_arcface_triplet": ("resnet50-arcface", SIMPLE),
    "simple_circle_paircircle": ("resnet50-circle", SIMPLE),
}
PROMPTS = {"clipreid_vit_stage1": "clip-reid-vit"}
BATCHES = (
    (((0, 1, 2, 3), (0, 1, 2, 3)), ((4, 5, 6, 7), (0, 1, 2, 3))),
    (((0, 2, 4, 6), (4, 5, 6, 7)), ((1, 3, 5, 7), (4, 5, 6, 7))),
)


@dataclass
class Trajectory:
    """What each step left: losses; learning rate and weight decay of each parameter; how far each
    has come since the start, as a norm and along its probe; batch-norm statistics at the end.
    """

    loss: list[float] = field(default_factory=list)
    lr: list[dict[str, float]] = field(default_factory=list)
    weight_decay: dict[str, float] = field(default_factory=dict)
    norm: list[dict[str, float]] = field(default_factory=list)
    dot: list[dict[str, float]] = field(default_factory=list)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    memories: list[Tensor] = field(default_factory=list)
    parameters: dict[str, Tensor] = field(default_factory=dict)


def authors_name(name: str) -> str:
    """How CLIP-ReID, PCL-CLIP and Simple-ReID call what our task has under ``name``."""
    name = name.removeprefix("text.").removeprefix("model.trunk.").removeprefix("trunk.")
    name = re.sub(r"^heads\.identity_projected\.(\w+)", r"\1_proj", name)
    name = re.sub(r"^heads\.identity\.weight$", "classifier.weight", name)
    return name.removeprefix("heads.identity.")


def fill_all(module: nn.Module, fill: Any) -> None:
    """Every weight and statistic from its name as its authors have it."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            given = authors_name(name)
            if value.is_floating_point() and given not in ("model.mean", "model.std"):
                key = "token_embedding.weight" if given.endswith(TOKENS) else given
                value.copy_(torch.from_numpy(fill.fill(key, tuple(value.shape))))


def probe(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The direction along which the change of a tensor is recorded."""
    bits = np.random.PCG64(zlib.crc32(f"probe.{name}".encode()))
    return np.random.Generator(bits).standard_normal(shape, dtype=np.float32)


def follow(
    name: str,
    overrides: Mapping[str, str],
    fill: Any,
    folder: Path,
    *,
    precision: str = "fp64",
    device: str = "cpu",
    probed: bool = True,
) -> Trajectory:
    """The image stage of recipe ``name``: two epochs of two steps. probed: fill ``dot``, whose
    directions take longer to draw than a GPU takes for the step.
    """
    settings = {"input.size": str(list(SIZE)), **overrides}
    recipe = load_recipe(name, settings)
    runtime = Runtime.create(device, precision)
    texts = None
    if recipe.model.text is not None:
        rows = _texts(recipe, fill, runtime).table()
        texts = TextTable(rows, list(range(PEOPLE)))
    task = build_task(recipe, classes=PEOPLE, texts=texts)
    fill_all(task, fill)
    data = _training_set(fill, folder / "images")
    (stage,) = build_stages(recipe, data, seed=0, runtime=runtime)
    assert isinstance(stage.batches, ReidBatches)
    stage.batches.sampler = _Given()
    stage.batches.augmentation = Augmentation()
    return _run(task, stage, runtime, folder, probed)


def follow_prompts(
    name: str,
    fill: Any,
    folder: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    precision: str = "fp64",
    device: str = "cpu",
    probed: bool = True,
) -> Trajectory:
    """The first stage of recipe ``name``, identity prompts: two epochs of three steps. probed: as
    of ``follow``.
    """
    recipe = load_recipe(name, {"input.size": str(list(SIZE)), **(overrides or {})})
    runtime = Runtime.create(device, precision)
    assert recipe.model.text is not None
    rows = torch.zeros(PEOPLE, tower_sizes(recipe.model.text)["output_dim"])
    image = build_task(recipe, classes=PEOPLE, texts=TextTable(rows, list(range(PEOPLE))))
    fill_all(image, fill)
    runtime.place(image)
    image.eval()
    data = _training_set(fill, folder / "images")
    pixels = torch.from_numpy(data.read(np.arange(len(data)))).to(runtime.device)
    pixels = pixels.permute(0, 3, 1, 2).to(runtime.dtype) / 255
    with torch.no_grad():
        trunk = image.model.trunk
        x = (pixels - image.model.mean) / image.model.std
        features = trunk.tokens(x).projected[:, 0].cpu()  # type: ignore[operator]
    stage = recipe.prompt_stages[0]
    terms = {stage.name: build_terms(stage, OUTPUTS)}
    task = PromptTask(_texts(recipe, fill, runtime), terms)
    labels = torch.arange(PEOPLE).repeat_interleave(SHOTS)
    built = build_stage(stage, _Shuffled(features, labels))
    return _run(task, built, runtime, folder, probed)


def _texts(recipe: Recipe, fill: Any, runtime: Runtime) -> Any:
    assert recipe.model.text is not None
    texts = build_texts(recipe.model.text, classes=PEOPLE, pretrained="none")
    fill_all(texts, fill)
    texts.prompt_learner.refresh(texts.text_encoder)
    runtime.place(texts)
    return texts


def _training_set(fill: Any, folder: Path) -> TrainingSet:
    keys = [f"traj_{person}_{shot}" for person in range(PEOPLE) for shot in range(SHOTS)]
    pixels = np.stack([fill.image(key, (*SIZE, 3)) for key in keys])
    rows = [
        ImageRow(
            key, key, "train", place // SHOTS, place % CAMERAS, None, "", None, SIZE[1], SIZE[0], ""
        )
        for place, key in enumerate(keys)
    ]
    folder.mkdir()
    np.save(folder / PIXELS, pixels)
    write_json(folder / KEYS, {"keys": keys, "size": list(SIZE), "filter": "bilinear"})
    return TrainingSet(PackedImages.open(folder), rows)


class _Given:
    """The recorded batches, as positions."""

    batch, together = 16, 4

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int) -> np.ndarray:
        return np.array(
            [[SHOTS * i + k for i in people for k in shots] for people, shots in BATCHES[epoch]]
        )


class _Shuffled:
    """Batches of stage 1: 24, 24 and 16 of the 64 features in the recorded order."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return 3

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(self.labels)))
        for chosen in order.split(24):
            yield {"projected": self.features[chosen], "labels": self.labels[chosen]}


class _Recorder:
    """Writes a trajectory down."""

    def __init__(self, into: Trajectory, task: ReidTask, probed: bool) -> None:
        self.into, self.probed = into, probed
        self.start = {n: p.detach().clone() for n, p in task.named_parameters()}

    def __call__(self, task: ReidTask, rule: Mapping[str, tuple[float, float]]) -> None:
        named = dict(task.named_parameters())
        rates, norms, dots = {}, {}, {}
        for name, parameter in named.items():
            given = authors_name(name)
            rates[given], self.into.weight_decay[given] = rule.get(name, (0.0, 0.0))
            moved = (parameter.detach().cpu() - self.start[name].cpu()).numpy()
            norms[given] = float(np.linalg.norm(moved.ravel()))
            if self.probed:
                dots[given] = float((moved * probe(given, moved.shape)).sum())
        self.into.lr.append(rates)
        self.into.norm.append(norms)
        self.into.dot.append(dots)
        self.into.statistics = {
            authors_name(name): value.cpu().clone()
            for name, value in task.named_buffers()
            if "running" in name
        }
        self.into.parameters = {authors_name(n): p.detach().cpu().clone() for n, p in named.items()}
        for memory in task.active_losses():
            if isinstance(memory, PrototypeMemory):
                self.into.memories.append(memory.prototypes.cpu().clone())


def _run(task: ReidTask, stage: Stage, runtime: Runtime, folder: Path, probed: bool) -> Trajectory:
    runtime.place(task)
    found = Trajectory()
    after = _Recorder(found, task, probed)
    found.loss = steps_of(task, stage, runtime, folder, epochs=EPOCHS, after=after)
    return found
