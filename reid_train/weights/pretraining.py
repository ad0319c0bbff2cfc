"""Pre-train clip-tiny or clip-tiny-vit: ``python -m reid_train.weights.pretraining --out DIR``.

CLIP (Radford et al. 2021) at a size for one CPU core, on generated people and sentences about them,
with open_clip's own loss. The people are of another world than those of the ``mannequins`` dataset.
"""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from pipeline.artifacts.atomic import replacing, sha256_file, write_json
from pipeline.artifacts.store import versions
from pipeline.terminal.commandline import CONTEXT, ToldCommand
from pipeline.terminal.options import COUNT
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.watching import Watching
from reid_train.engine.begun import check_begun
from reid_train.engine.loop import train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed, gather
from reid_train.engine.schedules import OneCycle
from reid_train.engine.task import Losses, ReidTask, Report, Stage
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny.sizes import FILES, INPUT, MEAN, STD, TEXT, TOWERS
from reid_train.models.clip.tiny.tower import image_network, image_rows
from reid_train.models.token_rows import IDS, ROWS, TABLE
from reid_train.weights.captions import CaptionBatches, vocabulary
from reid_train.weights.zero_shot import score

WORLD = 2_000_003
FIRST_SCALE = 4.0


class CaptionTask(ReidTask):
    """Both towers and the scale of their logits, on batches of ``images`` uint8 N,3,H,W and
    ``tokens`` int64 N,context (rows of a ``vocabulary`` tokens long embedding).

    The loss is CLIP's over the global batch, on cosines in float32 whatever autocast says. The
    scale never exceeds 100, as in CLIP, but starts at 4 instead of 14: in batches this small a
    large one drives untrained towers to answer everything with one row. ``tower``: ``resnet`` or
    ``vit``, the image's.
    """

    def __init__(self, vocabulary: int, tower: str = "resnet") -> None:
        super().__init__()
        self.tower = TOWERS[tower]
        self.image = image_network(tower)
        self.text = ClipText(**TEXT, vocabulary=vocabulary)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.loss = ClipLoss()

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        image = gather(F.normalize(image_rows(self.image, batch["images"]).float(), dim=1))
        text = gather(F.normalize(self.text.encode_tokens(batch["tokens"]).float(), dim=1))
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        with torch.autocast(image.device.type, enabled=False):
            loss = self.loss(image, text, scale)
            with torch.no_grad():
                found = (image @ text.T).argmax(1)
                right = (found == torch.arange(len(found), device=found.device)).float().mean()
        return {"contrast": loss}, {"accuracy": right, "scale": scale}


def initial(seed: int, words: int, tower: str = "resnet") -> CaptionTask:
    """The untrained model for ``words`` tokens, a function of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return CaptionTask(words, tower)


@torch.no_grad()
def centre(task: CaptionTask, batches: CaptionBatches, *, steps: int = 6) -> None:
    """Start from features that differ: mean 0 and deviation 1 in every dimension over ``batches``.

    Untrained towers give nearly the same row for everything, and the first steps of a large rate
    then make it one row altogether. Scale and shift go into the own weights of the last layers that
    have both: of the ViT, as of the text tower, the layer norm before the projection.
    """
    task.train()
    text: list[Tensor] = []
    image: list[Tensor] = []
    last = task.image.image_encoder.get_submodule(task.tower.centred)
    hooks = [
        task.text.ln_final.register_forward_hook(lambda *call: text.append(call[-1][:, 0])),
        last.register_forward_hook(lambda *call: image.append(call[-1][:, 0])),
    ]
    for _, batch in zip(range(steps), batches.epoch(0, 0, 1), strict=False):
        image_rows(task.image, batch["images"])
        task.text.encode_tokens(batch["tokens"])
    for hook in hooks:
        hook.remove()
    for layer, rows in ((task.text.ln_final, torch.cat(text)), (last, torch.cat(image))):
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        deviation = rows.std(dim=0) + 1e-3
        bias.sub_(rows.mean(dim=0)).div_(deviation)
        weight.div_(deviation.view(-1, *[1] * (weight.ndim - 1)))


@torch.no_grad()
def balance(task: CaptionTask, batches: CaptionBatches, *, steps: int = 8) -> None:
    """Give the features of both towers a mean length of the root of the trained scale.

    Cosines and thus the model stay the same, but raw dot products become CLIP's trained logits:
    what CLIP-ReID's losses without normalisation and temperature count on.
    """
    task.eval()
    device = task.logit_scale.device
    lengths = []
    for _, batch in zip(range(steps), batches.epoch(0, 0, 1), strict=False):
        image = image_rows(task.image, batch["images"].to(device))
        text = task.text.encode_tokens(batch["tokens"].to(device))
        lengths.append(torch.stack([image.norm(dim=1).mean(), text.norm(dim=1).mean()]))
    image_length, text_length = torch.stack(lengths).mean(0)
    wanted = task.logit_scale.clamp(max=math.log(100)).exp().sqrt()
    for name in task.tower.scaled:
        task.image.image_encoder.get_parameter(name).mul_(wanted / image_length)
    assert isinstance(task.text.text_projection, Tensor)
    task.text.text_projection.mul_(wanted / text_length)


def save(task: CaptionTask, vocabulary: Tensor, path: Path) -> None:
    """Write the model in the layout of OpenAI's files, matrices in float16.

    Two entries differ from OpenAI's. Of the token embedding only the trained rows are kept
    (``token_rows.expand``). Positions of images are laid out as a square, as they are there: each
    column of a grid twice as high as wide stands twice, and ``resize_positions`` to that grid
    averages the two equal ones again.
    """
    from safetensors.torch import save_file

    visual = task.image.image_encoder.state_dict()
    state = {f"visual.{k}": v for k, v in visual.items() if not k.endswith("batches_tracked")}
    height, width = task.image.grid
    entry = f"visual.{task.tower.positions}"
    positions = state[entry]
    square = positions[1:].view(height, width, -1).repeat_interleave(height // width, dim=1)
    state[entry] = torch.cat([positions[:1], square.flatten(0, 1)])
    state |= task.text.state_dict()
    state[ROWS], state[IDS] = state.pop(TABLE), vocabulary.to(torch.int32)
    state["logit_scale"] = task.logit_scale
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    halved = {k: v.half() if v.ndim > 1 else v for k, v in tensors.items()}
    with replacing(path) as temporary:
        save_file(halved, temporary)


@click.command(cls=ToldCommand, context_settings=CONTEXT)
@click.option("--out", type=TypedPath(), required=True, help="folder to write to")
@click.option(
    "--tower", type=click.Choice([*TOWERS]), default="resnet", show_default=True, help="for images"
)
@click.option("--seed", default=0, show_default=True)
@click.option("--people", type=COUNT, default=8192, show_default=True, help="generated people")
@click.option("--images", type=COUNT, default=4, show_default=True, help="of each person")
@click.option("--epochs", type=COUNT, default=8, show_default=True)
@click.option("--batch", type=COUNT, default=32, show_default=True, help="people per step")
@click.option("--lr", default=5e-4, show_default=True, help="peak rate")
@click.option("--scored", type=COUNT, help="score on this many test people  [default: all 32]")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="bf16", show_default=True)
@click.option("--threads", type=COUNT, default=1, show_default=True)
def main(
    out: Path,
    tower: str,
    seed: int,
    people: int,
    images: int,
    epochs: int,
    batch: int,
    lr: float,
    scored: int | None,
    device: str,
    precision: str,
    threads: int,
) -> None:
    """Pre-train clip-tiny (--tower resnet) or clip-tiny-vit (--tower vit), and write
    clip-tiny.safetensors and clip-tiny.json, or those of clip-tiny-vit.

    A run that was stopped goes on from its last state when the command is repeated; with options
    that decide another result it is refused.

    Example: python -m reid_train.weights.pretraining --out build/clip-tiny --seed 0
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    runtime = Runtime.create(device, precision, threads, join=True)
    decides = {
        "tower": tower, "seed": seed, "people": people, "images": images, "epochs": epochs,
        "batch": batch, "lr": lr, "precision": precision,
    }  # fmt: skip
    check_begun(out, decides, runtime)
    batches = CaptionBatches.render(
        people, images, INPUT, world=WORLD + seed, batch=batch, seed=derive_seed(seed, "data")
    )
    words = vocabulary()
    task = initial(seed, len(words), tower)
    stage = Stage(
        "captions",
        epochs,
        batches,
        optimiser=Optimiser(
            "adamw",
            lr=lr,
            weight_decay=0.05,
            decay_matrices_only=True,
            no_decay=("text.token_embedding.weight", "*positional_embedding"),
            betas=(0.9, 0.98),
        ),
        schedule=OneCycle(rise=0.1, final_division=1000),
        trains=(("*", 1.0), ("logit_scale", 3.0)),
        clip=1.0,
    )
    centre(task, batches)
    result = train(
        task, [stage], runtime=runtime, folder=out, seed=seed, progress=True,
        watching=Watching(), channels_last=True,
    )  # fmt: skip
    balance(task, batches)
    weights = out / FILES[task.tower.model].name
    if runtime.main:
        save(task, words, weights)
    runtime.barrier()  # the others read what the first one wrote
    scores = score(weights, scored)
    if runtime.main:
        about = {
            "command": (
                f"python -m reid_train.weights.pretraining --out DIR --tower {tower} --seed {seed} "
                f"--people {people} --images {images} --epochs {epochs} --batch {batch} --lr {lr} "
                f"--precision {precision} --threads {threads}"
            ),
            "seed": seed,
            "world": WORLD + seed,
            "input_size": list(INPUT),
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "sha256": sha256_file(weights),
            "tokens": len(words),
            "training": {
                "steps": result.steps,
                "images_per_s": round(result.images_per_s, 1),
                "seconds": round(result.seconds),
                **result.figures,
            },
            "runtime": runtime.facts(),
            "versions": versions(),
            "scores": scores,
        }
        write_json(weights.with_suffix(".json"), about)
        recalled = scores["recall"]["1"]
        click.echo(f"recall@1 {recalled:.3f} of {scores['captions']} captions; {weights}")
    runtime.barrier()


if __name__ == "__main__":
    main()
