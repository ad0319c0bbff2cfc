"""A training step of CLIP-ReID beside its authors', and what pi-VL adds to ours: CPU seconds.

    OMP_NUM_THREADS=1 python -m benchmarks.steps --batch 16 --rounds 3
    OMP_NUM_THREADS=1 python -m benchmarks.steps --peers ~/peers    # with a checkout CLIP-ReID

A step of ours is one of the training loop, with all that it does: forward, backward, optimiser,
norms, its line of the log. Theirs is the same order of calls on their modules: forward, losses,
backward, ``Adam`` with a group for each parameter, ``loss.item()``, in float32. Without ``--peers``
it is written from the description of their code: 77 positions of every prompt and weights that
train in stage 1, every token of every block and every query of the attention pool in stage 2.
Weights and images are random, 256x128, networks at their full size. The ways take turns in one
process; ratios are of the least CPU seconds of each. The limit is what of a step are products and
convolutions, forward and backward, each alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import CLIP_REID, first_on_path
from benchmarks.products import HEIGHT, WIDTH, Way, of_images, of_prompts
from benchmarks.row import Row
from pipeline.labels.sets import LIP
from reid_train.engine import loop
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import ReidTask, Stage
from reid_train.losses.contrastive import SupCon
from reid_train.losses.identity import CrossEntropy
from reid_train.losses.triplet import Triplet
from reid_train.models.text_table import TextTable
from reid_train.recipe.assembly import build_task, build_terms
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.stages import build_stage
from reid_train.recipe.texts import build_texts

IDENTITIES = 751
TRUNKS = {"RN50": "rn50", "ViT-B/16": "vit"}


def main() -> None:
    parser = argparse.ArgumentParser(description="our training steps beside CLIP-ReID's")
    parser.add_argument("--batch", type=int, default=16, help="images of a step of stage 2")
    parser.add_argument("--labels", type=int, default=64, help="images of a step of stage 1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, help="folder with a checkout CLIP-ReID")
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()
    for row in measured(options.batch, options.labels, options.rounds, options.peers, options.only):
        print(f"{row.work}: {row.measured:.3g}{row.unit} {row.against}; goal {row.goal}; "
              f"limit {row.limit}", flush=True)  # fmt: skip


def rows(peers: Path | None = None) -> Iterable[Row]:
    """The small form: fewer images (but of two people, as a triplet needs), two rounds."""
    return measured(8, 16, 2, peers)


def measured(
    batch: int, labels: int, rounds: int, peers: Path | None, only: str = ""
) -> Iterator[Row]:
    """Stage 1, stage 2 and pi-VL for both trunks, those with ``only`` in their name."""
    against = "faster than its authors' code" if peers else "faster than the plain way"
    for trunk, name in TRUNKS.items():
        work = f"CLIP-ReID stage 1 step, {trunk}, {labels} images"
        if only in work:
            ours, theirs = _stage1(name, labels, peers)
            prompts = of_prompts(len(ours.batch["labels"].unique()))
            times = in_turn({"ours": ours, "theirs": theirs, "limit": prompts}, rounds)
            limit = f"products alone {times['theirs'] / times['limit']:.1f}x"
            yield Row(work, times["theirs"] / times["ours"], "x", against, "15x", limit, None)
        work = f"CLIP-ReID stage 2 step, {trunk}, batch {batch}"
        if only in work:
            ours, theirs = _stage2(name, batch, peers)
            ways = {"ours": ours, "theirs": theirs, "limit": of_images(name, batch)}
            times = in_turn(ways, rounds)
            limit = f"products and convolutions alone {times['theirs'] / times['limit']:.2f}x"
            yield Row(work, times["theirs"] / times["ours"], "x", against, "1.3x", limit, None)
        work = f"pi-VL's image step, {trunk}, batch {batch}"
        if only in work:
            plain = f"clip-reid-{'vit-sie-olp' if name == 'vit' else name}"
            ways = {"without": step_of(plain, batch), "with": step_of(f"pi-vl-{name}", batch)}
            times = in_turn(ways, rounds)
            goal = "1.08x" if name == "rn50" else "1.15x"
            beside = f"the time of {plain}'s"
            yield Row(work, times["with"] / times["without"], "x", beside, goal, "", None)


def in_turn(ways: Mapping[str, Way], rounds: int) -> dict[str, float]:
    """Least CPU seconds of each, as other work only adds; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            if number:
                times[name].append(time.process_time() - started)
    for way in ways.values():
        if isinstance(way, Steps):
            way.close()
    least = {name: min(values) for name, values in times.items()}
    print("  " + ", ".join(f"{n} {v:.3f}" for n, v in least.items()), "CPU s", file=sys.stderr)
    return least


class Steps:
    """The training loop, a step at a time: each call lets it take one on the same batch."""

    def __init__(
        self, task: ReidTask, stage: Stage, batch: dict[str, Tensor], channels_last: bool = False
    ) -> None:
        self.task, self.batch, self.channels_last = task, batch, channels_last
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.over = False
        self.failed: RuntimeError | None = None
        stage.batches, stage.epochs, stage.hooks = self, 1, ()
        self.thread = threading.Thread(target=self._run, args=(stage,), daemon=True)
        self.thread.start()
        self.done.acquire()

    def _run(self, stage: Stage) -> None:
        runtime = Runtime.create("cpu", threads=1)
        try:
            with tempfile.TemporaryDirectory() as folder:
                loop.train(self.task, [stage], runtime=runtime, folder=folder,
                           channels_last=self.channels_last)  # fmt: skip
        except RuntimeError as error:  # the loop misses the batches that nobody asked for
            self.failed = None if self.over else error
        finally:
            self.done.release()

    def __len__(self) -> int:
        return 10**6

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        del epoch, rank, world
        while True:
            self.done.release()
            self.go.acquire()
            if self.over:
                return
            yield self.batch

    def __call__(self) -> None:
        self.go.release()
        self.done.acquire()
        if self.failed is not None:
            raise self.failed

    def close(self) -> None:
        self.over = True
        self.go.release()
        self.thread.join()


# ------------------------------------------------------------------ ours


def step_of(recipe: str, batch: int) -> Steps:
    """The image stage of a recipe on random images, four of each person."""
    loaded = load_recipe(recipe, {"model.options.cameras": "6"} if "sie" in recipe or
                         recipe == "pi-vl-vit" else {})  # fmt: skip
    torch.manual_seed(0)
    dim = 1024 if "rn50" in recipe else 512
    parts = torch.randn(IDENTITIES, len(LIP), dim) if recipe.startswith("pi-vl") else None
    table = TextTable(torch.randn(IDENTITIES, dim), list(range(IDENTITIES)), parts,
                      LIP.names if parts is not None else ())  # fmt: skip
    task = build_task(loaded, classes=IDENTITIES, texts=table)
    given = {"images": torch.randint(256, (batch, 3, HEIGHT, WIDTH), dtype=torch.uint8)}
    given["labels"] = torch.arange(-(-batch // 4)).repeat_interleave(4)[:batch]
    given["camids"] = torch.arange(batch) % 6
    if parts is not None:
        blocks = torch.randint(len(LIP), (batch, HEIGHT // 16, WIDTH // 16), dtype=torch.uint8)
        given["label_maps"] = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
        given["confidence"] = torch.rand(batch, HEIGHT, WIDTH)
    stage = build_stage(loaded.image_stages[0], batches=())  # type: ignore[arg-type]
    return Steps(task, stage, given, loaded.channels_last)


def _stage2(name: str, batch: int, peers: Path | None) -> tuple[Steps, Way]:
    ours = step_of(f"clip-reid-{name}", batch)
    task: Any = ours.task
    images = torch.randn(batch, 3, HEIGHT, WIDTH)
    labels = ours.batch["labels"]
    if peers is not None:
        return ours, Authors(peers, name).stage2(images, labels)
    return ours, plain_stage2(name, task, images, labels)


def _stage1(name: str, labels: int, peers: Path | None) -> tuple[Steps, Way]:
    recipe = load_recipe(f"clip-reid-{name}")
    stage = recipe.prompt_stages[0]
    assert recipe.model.text is not None
    torch.manual_seed(0)
    texts = build_texts(recipe.model.text, classes=IDENTITIES, pretrained="none")
    batch = {"projected": torch.randn(labels, 512 if name == "vit" else 1024)}
    batch["labels"] = torch.randint(IDENTITIES, (labels,))
    task = PromptTask(texts, {stage.name: build_terms(stage, OUTPUTS)})
    ours = Steps(task, build_stage(stage, batches=()), batch)  # type: ignore[arg-type]
    if peers is not None:
        return ours, Authors(peers, name).stage1(batch["projected"], batch["labels"])
    return ours, plain_stage1(name, batch["projected"], batch["labels"])


# ------------------------------------------------------------------ the plain way


def plain_stage1(name: str, image: Tensor, labels: Tensor) -> Way:
    """Every prompt at full length, once for each image, through weights that train."""
    from benchmarks.text import Plain

    recipe = load_recipe(f"clip-reid-{name}")
    assert recipe.model.text is not None
    texts = build_texts(recipe.model.text, classes=IDENTITIES, pretrained="none")
    plain, loss = Plain(texts), SupCon()
    adam = torch.optim.Adam([texts.prompt_learner.cls_ctx], lr=3.5e-4, weight_decay=1e-4)

    def step() -> None:
        adam.zero_grad()
        total = loss(image, plain.identities(labels), labels)
        total.backward()
        adam.step()
        total.item()

    return step


def plain_stage2(name: str, task: Any, images: Tensor, labels: Tensor) -> Way:
    """Every token of every block and every query of the attention pool."""
    torch.manual_seed(0)
    recipe = load_recipe(f"clip-reid-{name}")
    rows = task.texts.identities
    own = build_task(recipe, classes=IDENTITIES, texts=TextTable(rows, list(range(len(rows)))))
    trunk: Any = own.model.trunk
    heads: Any = own.heads
    triplet, cross = Triplet(), CrossEntropy(label_smoothing=0.1)
    groups = [{"params": [p], "lr": 5e-6} for p in own.parameters() if p.requires_grad]
    adam = torch.optim.Adam(groups, weight_decay=1e-4)

    def step() -> None:
        adam.zero_grad()
        if name == "vit":
            encoder = trunk.image_encoder
            x = encoder.conv1(images).flatten(2).transpose(1, 2)
            token = encoder.class_embedding.expand(len(x), 1, -1)
            x = encoder.ln_pre(torch.cat([token, x], 1) + encoder.positional_embedding)
            for block in encoder.transformer.resblocks[:-1]:
                x = block(x)
            final = encoder.ln_post(encoder.transformer.resblocks[-1](x))
            features = [x[:, 0], final[:, 0], (final @ encoder.proj)[:, 0]]
        else:
            last, final, projected, _ = trunk.tokens(images)
            features = [last.mean((2, 3)), final.mean((2, 3)), projected[:, 0]]
        scores = [heads.identity(features[1]), heads.identity_projected(features[2])]
        scores.append(features[2] @ rows.T)
        total = torch.stack([triplet(f, labels) for f in features]).sum()
        total = total + torch.stack([cross(score, labels) for score in scores]).sum()
        total.backward()
        adam.step()
        total.item()

    return step


# ------------------------------------------------------------------ the authors' code


class Authors:
    """Modules and losses of a checkout of Syliz517/CLIP-ReID, on the CPU, random weights."""

    def __init__(self, peers: Path, name: str) -> None:
        sys.modules.setdefault("turtle", types.SimpleNamespace(pd=None))  # type: ignore[arg-type]
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
        with first_on_path(peers / CLIP_REID):
            from loss.softmax_loss import CrossEntropyLabelSmooth  # type: ignore[import-not-found]
            from loss.supcontrast import SupConLoss  # type: ignore[import-not-found]
            from loss.triplet_loss import TripletLoss  # type: ignore[import-not-found]
            from model import make_model_clipreid as making  # type: ignore[import-not-found]
            from model.clip.model import CLIP  # type: ignore[import-not-found]

        vit = name == "vit"
        torch.manual_seed(0)
        clip = CLIP(512 if vit else 1024, 224, 12 if vit else (3, 4, 6, 3), 768 if vit else 64, 16,
                    16, 77, 49408, 512, 8, 12, HEIGHT // 16, WIDTH // 16)  # fmt: skip
        clip.to = lambda *_: clip  # they name the device themselves
        making.load_clip_to_cpu = lambda *_: clip
        as_object = types.SimpleNamespace
        settings = as_object(
            MODEL=as_object(NAME="ViT-B-16" if vit else "RN50", COS_LAYER=False, NECK="bnneck",
                            SIE_COE=1.0, SIE_CAMERA=False, SIE_VIEW=False, STRIDE_SIZE=[16, 16]),
            TEST=as_object(NECK_FEAT="before"),
            INPUT=as_object(SIZE_TRAIN=[HEIGHT, WIDTH]),
            DATASETS=as_object(NAMES="market1501"),
        )  # fmt: skip
        self.model = making.make_model(settings, IDENTITIES, 6, 1).train()
        self.dim = 512 if vit else 1024
        self.contrast, self.triplet = SupConLoss("cpu"), TripletLoss(0.3)
        self.cross = CrossEntropyLabelSmooth(num_classes=IDENTITIES)

    def stage1(self, image: Tensor, labels: Tensor) -> Way:
        """A step on cached features; all weights of the towers train, as they left them."""
        adam = torch.optim.Adam(self.model.prompt_learner.parameters(), lr=3.5e-4,
                                weight_decay=1e-4)  # fmt: skip

        def step() -> None:
            adam.zero_grad()
            text = self.model(label=labels, get_text=True)
            total = self.contrast(image, text, labels, labels)
            total = total + self.contrast(text, image, labels, labels)
            total.backward()
            adam.step()
            total.item()

        return step

    def stage2(self, images: Tensor, labels: Tensor) -> Way:
        """A step on images, the text side frozen."""
        self.model.prompt_learner.requires_grad_(False)
        self.model.text_encoder.requires_grad_(False)
        groups = [{"params": [p], "lr": 5e-6, "weight_decay": 1e-4}
                  for p in self.model.parameters() if p.requires_grad]  # fmt: skip
        adam, texts = torch.optim.Adam(groups), torch.randn(IDENTITIES, self.dim)

        def step() -> None:
            adam.zero_grad()
            scores, features, projected = self.model(x=images, label=labels)
            logits = projected @ texts.t()
            terms = [self.cross(score, labels) for score in [*scores, logits]]
            terms += [self.triplet(feature, labels)[0] for feature in features]
            total: Any = sum(terms)
            total.backward()
            adam.step()
            total.item()
            (logits.max(1)[1] == labels).float().mean()

        return step


if __name__ == "__main__":
    main()
