"""Train the small parser that ships with the package: ``python -m parsing_models.training``.

SCHP's network at a quarter of its width, on generated people only, with SCHP's losses: Lovasz and
cross-entropy, weighted cross-entropy on the part edges. Deviations from the published recipe:
AdamW and one cycle instead of SGD and restarts, weights averaged over the last steps instead of
self-correction, a first stage at two thirds of the input size, losses at half the input size,
Lovasz on the fusion head alone and on a random quarter of the pixels: all to fit CPU minutes.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from parsing_models.losses import IGNORE, edge_loss, lovasz_softmax
from parsing_models.mannequin_batches import MannequinBatches
from parsing_models.parser import Parser
from parsing_models.schp import SCHP, Widths
from parsing_models.schp_parser import TINY_INPUT, load_schp
from parsing_models.scoring import Confusion
from pipeline.atomic import replacing, sha256_file, write_json
from pipeline.labels import LIP
from pipeline.mannequins import DEFAULTS, draw, plan
from pipeline.store import versions
from reid_train.loop import train
from reid_train.runtime import Runtime, derive_seed
from reid_train.task import Losses, OneCycle, Optimiser, ReidTask, Report, Stage

TINY = Widths(
    classes=20, layers=(2, 2, 4, 2), stem=16, planes=16, context=64, head=64, skip=16, edge=32
)
# World of the training people; the dataset that scores them is another one (seed 0).
WORLD = 1_000_003


class ParsingTask(ReidTask):
    """SCHP with its losses on a batch of ``images`` N,3,H,W and ``labels`` int64 N,H,W."""

    def __init__(self, network: SCHP) -> None:
        super().__init__()
        self.network = network

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        out = self.network(batch["images"])
        labels = _nearest(batch["labels"], 2)
        fusion, parsing, edge = (_upsampled(x, labels) for x in (out.fusion, out.parsing, out.edge))
        pixels = torch.randperm(labels.numel(), device=labels.device)[: labels.numel() // 4]
        chosen = labels.flatten()[pixels]
        losses = {
            "fusion": F.cross_entropy(fusion, labels, ignore_index=IGNORE),
            "parsing": 0.5 * F.cross_entropy(parsing, labels, ignore_index=IGNORE),
            "lovasz": 0.5 * lovasz_softmax(_flat(fusion)[pixels], chosen),
            "edge": 0.5 * edge_loss(edge, labels),
        }
        with torch.no_grad():
            right = (fusion.argmax(1) == labels)[labels != IGNORE].float().mean()
        return losses, {"pixel_accuracy": right}


def _nearest(labels: Tensor, step: int) -> Tensor:
    # The corners stay corners, as in the logits' own resizing.
    rows, columns = (
        torch.linspace(0, size - 1, size // step, device=labels.device).round().long()
        for size in labels.shape[1:]
    )
    return labels[:, rows][:, :, columns]


def _upsampled(logits: Tensor, labels: Tensor) -> Tensor:
    return F.interpolate(logits.float(), labels.shape[1:], mode="bilinear", align_corners=True)


def _flat(logits: Tensor) -> Tensor:
    return logits.permute(0, 2, 3, 1).flatten(0, 2)  # N,C,H,W -> P,C


def initial(seed: int) -> SCHP:
    """The untrained small network, a function of ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        network = SCHP(TINY)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
    return network


def score(parser: Parser, images: int | None = None) -> dict:
    """Score a parser on the test split of the default ``mannequins`` dataset (or its first
    ``images``): other people, scenes and cameras than those of training, maps at 256 x 128."""
    confusion = Confusion(LIP)
    entries = [entry for entry in plan(DEFAULTS, Path()) if entry.split != "train"][:images]
    for entry in entries:
        figure = draw(entry.seed, entry.pid, entry.camera, entry.index, entry.size)
        confusion.add(figure.label, parser.parse(figure.image[None], entry.size).label[0])
    return {
        **confusion.scores(),
        "images": len(entries),
        "protocol": (
            "mannequins, seed 0, splits query and gallery (people, scenes and cameras not seen in "
            "training), maps 256x128, no test-time options; IoU per class from one confusion "
            "matrix over all pixels, mean over the 20 LIP classes"
        ),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder to write to")
@click.option("--seed", default=0, show_default=True)
@click.option("--images", default=10000, show_default=True, help="generated training images")
@click.option("--epochs", nargs=2, default=(4, 4), show_default=True, help="small, full size")
@click.option("--batch", default=8, show_default=True, help="images per step")
@click.option("--lr", default=2e-3, show_default=True, help="peak rate; two thirds at full size")
@click.option("--strength", default=0.4, show_default=True, help="of the augmentation, 0..1")
@click.option("--scored", type=int, help="score this many images  [default: all 512]")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="bf16", show_default=True)
def main(
    out: Path,
    seed: int,
    images: int,
    epochs: tuple[int, int],
    batch: int,
    lr: float,
    strength: float,
    scored: int | None,
    device: str,
    precision: str,
) -> None:
    """Train schp-tiny and write schp-tiny.safetensors and schp-tiny.json.

    A run that was stopped goes on from its last state when the command is repeated.

    Example: python -m parsing_models.training --out build/schp-tiny --seed 0
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    runtime = Runtime.create(device, precision)
    batches = MannequinBatches.render(
        images, TINY_INPUT, batch=batch, seed=WORLD + seed, strength=strength
    )
    task = ParsingTask(initial(seed))
    optimiser = Optimiser("adamw", lr=lr, weight_decay=0.02, decay_matrices_only=True)
    height, width = TINY_INPUT
    stages = [
        Stage(
            "small",
            epochs[0],
            batches.resized((height * 2 // 3, width * 2 // 3)),
            optimiser=optimiser,
            schedule=OneCycle(rise=0.15, final_division=10),
            clip=5.0,
        ),
        Stage(
            "full",
            epochs[1],
            batches,
            optimiser=replace(optimiser, lr=lr * 2 / 3),
            schedule=OneCycle(rise=0.1, start_division=5),
            clip=5.0,
            ema=0.998,
        ),
    ]
    result = train(
        task, stages, runtime=runtime, folder=out, seed=seed, progress=True, channels_last=True
    )
    weights = out / "schp-tiny.safetensors"
    save_half(task.network, weights)
    scores = score(load_schp("schp-tiny", weights, device=device, options={}), scored)
    write_json(
        weights.with_suffix(".json"),
        {
            "command": (
                f"python -m parsing_models.training --out DIR --seed {seed} --images {images} "
                f"--epochs {epochs[0]} {epochs[1]} --batch {batch} --lr {lr} --strength {strength} "
                f"--precision {precision}"
            ),
            "seed": seed,
            "input_size": list(TINY_INPUT),
            "label_set": LIP.name,
            "sha256": sha256_file(weights),
            "training": {"images_per_s": round(result.images_per_s, 1), **result.figures},
            "runtime": runtime.facts(),
            "versions": versions(),
            "scores": scores,
        },
    )
    click.echo(f"mIoU {scores['mIoU']:.4f} on {scores['images']} images; {weights}")


def save_half(network: SCHP, path: Path) -> None:
    """Write the weights as float16: half the size, and no label of a map depends on the rest."""
    from safetensors.torch import save_file

    tensors = {
        key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


if __name__ == "__main__":
    main()
