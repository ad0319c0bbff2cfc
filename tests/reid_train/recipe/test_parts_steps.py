"""pi-VL's own parts, in the first steps of the shipped recipe: part prompts against parts of images
(arXiv 2308.02738 v1 eq. 6 to 8) and the alignment of a fused map with a map of texts (eq. 9 to 11),
written out cell by cell in float64. Where the paper leaves a choice it is the one the recipe says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_train.data.features import FeatureBatches, FrozenFeatures
from reid_train.engine.runtime import Runtime
from reid_train.models.text_table import TextTable
from reid_train.recipe.assembly import build_task, build_terms
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.stages import build_stage
from tests.reid_train.plain.clip import cross_entropy, unit
from tests.reid_train.plain.resnet import Encoder
from tests.reid_train.plain.updates import Adam, Named, gradients, leaves
from tests.reid_train.recipe.small_rn50 import (
    IMAGE_HEADS,
    SETTINGS,
    SIZE,
    normalised,
    prompt_rows,
    scatter,
    small_texts,
)
from tests.reid_train.stepping import assert_moved_alike, recorded

PEOPLE, IGNORED = 4, 255
PARTS = ("background", "hair", "upper-clothes", "left-shoe")
CONTEXT = "text.prompt_learner.cls_ctx"


def part_contrast(batch: Named, texts: Tensor) -> Tensor:
    """Every cell of an image that shows a part is a row; texts C,P,D. Cosines over 0.07; of the
    texts those that a cell of the batch belongs to; minus signs as the paper's eq. 7 lacks them.
    """
    cells, own = [], []
    for image, label in enumerate(batch["labels"].tolist()):
        for part in range(len(PARTS)):
            for _ in range(int(batch["counts"][image, part])):
                cells.append(batch["parts"][image, part].double())
                own.append((label, part))
    present = sorted(set(own))
    place = torch.tensor([present.index(pair) for pair in own])
    rows = unit(torch.stack(cells))
    scores = rows @ unit(torch.stack([texts[pair] for pair in present])).T / 0.07
    matching = scores.gather(1, place[:, None])[:, 0]
    to_text = torch.logsumexp(scores, 1) - matching
    to_image = torch.logsumexp(scores, 0)[place] - matching
    return to_text.mean() + to_image.mean()


def test_the_first_steps_of_the_part_stage(tmp_path: Path):
    recipe, runtime = load_recipe("pi-vl-rn50", SETTINGS), Runtime.create("cpu", "fp64")
    identity, stage = recipe.prompt_stages
    assert (identity.epochs, stage.epochs) == (60, 20)
    assert stage.data.batch == 64 and stage.data.parts  # type: ignore[union-attr]
    texts = small_texts(recipe, PEOPLE, runtime)
    tower = {n: v.clone() for n, v in texts.text_encoder.state_dict().items()}
    learnt = leaves({CONTEXT: texts.prompt_learner.cls_ctx})
    generator = torch.Generator().manual_seed(4)
    images = 70
    frozen = FrozenFeatures(
        projected=torch.zeros(images, 1024),
        labels=torch.randint(0, PEOPLE, (images,), generator=generator),
        pids=list(range(PEOPLE)),
        parts=torch.randn(images, len(PARTS), 1024, generator=generator).half(),
        counts=torch.randint(0, 3, (images, len(PARTS)), generator=generator).float(),
        part_names=PARTS,
    )
    task = PromptTask(texts, {stage.name: build_terms(stage, OUTPUTS)}, PARTS)
    source = build_stage(stage, FeatureBatches(frozen, batch=64, parts=True, seed=0))
    found = recorded(task, source, runtime, tmp_path, epochs=2)
    adam = Adam()
    assert [len(batch["labels"]) for batch in found.batches] == [64, 6] * 2
    for step, batch in enumerate(found.batches):
        rate = 1e-6 + (3.5e-4 - 1e-6) * (1 + math.cos(math.pi * (step // 2) / 20)) / 2
        sentences = [f"A photo of a X X X X person's {p.replace('-', ' ')}." for p in PARTS]
        rows = [prompt_rows(tower, learnt[CONTEXT], sentence) for sentence in sentences]
        loss = part_contrast(batch, torch.stack(rows, 1))
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-10)
        learnt = adam(learnt, gradients(loss, learnt), lambda _, rate=rate: (rate, 1e-4))
        assert found.rules[step] == {CONTEXT: pytest.approx((rate, 1e-4), rel=1e-12)}
        own = found.states[step][CONTEXT]
        torch.testing.assert_close(own, learnt[CONTEXT].detach(), rtol=1e-7, atol=1e-8)


class Walkers:
    """One batch of eight images an epoch, two of each person, and maps of their parts."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(6)
        self.images = torch.randint(0, 256, (2, 8, 3, *SIZE), generator=generator).byte()
        coarse = torch.randint(0, len(PARTS) + 1, (2, 8, 1, 16, 8), generator=generator).double()
        maps = F.interpolate(coarse.flatten(0, 1), SIZE).view(2, 8, *SIZE).byte()
        self.maps = torch.where(maps == len(PARTS), IGNORED, maps)
        self.maps[:, -1] = IGNORED  # of one image nothing is known
        self.confidence = torch.randint(0, 256, self.maps.shape, generator=generator) / 255

    def __len__(self) -> int:
        return 1

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        del rank, world
        yield {
            "images": self.images[epoch],
            "labels": torch.arange(PEOPLE).repeat_interleave(2),
            "label_maps": self.maps[epoch],
            "confidence": self.confidence[epoch],
        }


def majority(maps: Tensor, confidence: Tensor) -> Tensor:
    """Labels of cells of 8x8 pixels: of most pixels, else of most confidence, else ignored."""
    labels = torch.zeros(len(maps), SIZE[0] // 8, SIZE[1] // 8, dtype=torch.long)
    for image, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        place = (image, slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8))
        seen, trust = maps[place].flatten(), confidence[place].flatten().double()
        votes = [
            (int((seen == part).sum()), float(trust[seen == part].sum()), part == IGNORED, -part)
            for part in seen.unique().tolist()
        ]
        labels[image, y, x] = -max(votes)[3]
    return labels


def alignment(learnt: Named, levels: tuple[Tensor, ...], batch: Named, rows: Tensor) -> Tensor:
    """1x1 convolutions, resampling to stride 8, the sum; squared distances of unit vectors to the
    text of each cell's part and person, mean over cells, then over images that have any.
    """
    size = (SIZE[0] // 8, SIZE[1] // 8)
    fused = torch.zeros(len(levels[0]), rows.shape[-1], *size, dtype=torch.float64)
    for number, level in enumerate(levels):
        name = f"heads.dense.laterals.{number}"
        projected = F.conv2d(level, learnt[f"{name}.weight"], learnt[f"{name}.bias"])
        if number == 0:
            projected = F.avg_pool2d(projected, 2)
        elif number == 2:
            projected = F.interpolate(projected, size, mode="bilinear", align_corners=False)
        fused = fused + projected
    cells = majority(batch["label_maps"], batch["confidence"])
    losses = []
    for image, label in enumerate(batch["labels"].tolist()):
        distances = [
            (unit(fused[image, :, y, x]) - unit(rows[label, part])).square().sum()
            for y in range(size[0])
            for x in range(size[1])
            if (part := int(cells[image, y, x])) != IGNORED
        ]
        if distances:
            losses.append(torch.stack(distances).mean())
    assert len(losses) == 7
    return torch.stack(losses).mean()


def triplet(features: Tensor, labels: Tensor) -> Tensor:
    """Hardest positive and negative of each by Euclidean distance, margin 0.3."""
    gaps = (features[:, None] - features).square().sum(2)
    distances = gaps.clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels
    far = torch.where(same, distances, 0).amax(1)
    near = torch.where(same, math.inf, distances).amin(1)
    return (far - near + 0.3).clamp(min=0).mean()


def necked(learnt: Named, head: str, x: Tensor) -> Tensor:
    mean = x.mean(0)
    x = (x - mean) / ((x - mean).square().mean(0) + 1e-5).sqrt()
    x = x * learnt[f"heads.{head}.bottleneck.weight"]
    return x @ learnt[f"heads.{head}.classifier.weight"].T


def test_the_first_steps_of_the_alignment(tmp_path: Path):
    recipe, runtime = load_recipe("pi-vl-rn50", SETTINGS), Runtime.create("cpu", "fp64")
    (stage,) = recipe.image_stages
    assert stage.epochs == 120
    generator = torch.Generator().manual_seed(5)
    identities = torch.randn(PEOPLE, 1024, generator=generator)
    parts = 3 * torch.randn(PEOPLE, len(PARTS), 1024, generator=generator)
    table = TextTable(identities, list(range(PEOPLE)), parts, PARTS)
    task = build_task(recipe, classes=PEOPLE, texts=table)
    scatter(task.model, 1)
    runtime.place(task)
    trained = {n: p for n, p in task.named_parameters() if p.requires_grad}
    assert "heads.identity.bottleneck.bias" not in trained
    learnt = leaves(trained)
    begun = {n: p.detach().clone() for n, p in trained.items()}
    found = recorded(task, build_stage(stage, Walkers()), runtime, tmp_path, epochs=2)
    inside = "model.trunk.image_encoder."
    adam = Adam()
    for step, batch in enumerate(found.batches):
        state = {n.removeprefix(inside): p for n, p in learnt.items() if n.startswith(inside)}
        maps = Encoder(state, heads=IMAGE_HEADS, training=True)(normalised(batch["images"]))
        labels, pooled = batch["labels"], maps.projected[:, 0]
        last, feature = maps.levels[2].mean((2, 3)), maps.last.mean((2, 3))
        loss = alignment(learnt, maps.levels, batch, parts.double())
        loss = loss + cross_entropy(necked(learnt, "identity", feature), labels, 0.1)
        loss = loss + cross_entropy(necked(learnt, "identity_projected", pooled), labels, 0.1)
        loss = loss + cross_entropy(pooled @ identities.double().T, labels, 0.1)
        loss = loss + sum(triplet(x, labels) for x in (last, feature, pooled))
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-9)
        rise = (step + 1) / 10
        rate = 3.5e-4 * (0.01 * (1 - rise) + rise)

        def rule(name: str, rate: float = rate) -> tuple[float, float]:
            return (2 * rate if "bias" in name else rate), 5e-4

        learnt = adam(learnt, gradients(loss, learnt), rule)
        for name, value in learnt.items():
            assert found.rules[step][name] == pytest.approx(rule(name), rel=1e-12)
            own = found.states[step][name]
            assert_moved_alike(own, value.detach(), begun[name], what=name)
