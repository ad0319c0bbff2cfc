"""Train a small parser on generated people: ``python -m parsing_models.training.small --out DIR``.

The SCHP recipe of ``parsing_models.training.published`` at a size for CPU hours. Deviations from
the published recipe, all of them to fit those hours: AdamW and one cycle instead of SGD and a
cosine, a first stage at two thirds of the input size, losses at half the input size, Lovasz on a
random quarter of the pixels, a running average of the weights in the second stage, and cycles that
share one augmented source for the batch-norm estimate.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch
from torch import nn

from parsing_models import load_parser
from parsing_models.networks.schp.network import SCHP, TINY
from parsing_models.parsers import segformer
from parsing_models.parsers.interface import Parser
from parsing_models.parsers.schp import TINY_INPUT
from parsing_models.scoring import Confusion
from parsing_models.training.batches.mannequins import MannequinBatches
from parsing_models.training.manner import MANNERS, OURS, Manner
from parsing_models.training.self_correction import SelfCorrection
from parsing_models.training.task import Cost, ParsingTask
from pipeline.artifacts.atomic import replacing, sha256_file, write_json
from pipeline.artifacts.store import versions
from pipeline.labels.sets import LIP
from pipeline.mannequins import DEFAULTS, draw, plan
from pipeline.terminal.commandline import CONTEXT, ToldCommand
from pipeline.terminal.options import COUNT
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.watching import Watching
from reid_train.engine.begun import check_begun
from reid_train.engine.loop import train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed
from reid_train.engine.schedules import OneCycle
from reid_train.engine.task import Stage

# World of the training people; the dataset that scores them is another one (seed 0).
WORLD = 1_000_003
COST = Cost(step=2, lovasz_share=0.25)
KINDS = ("schp-tiny", "segformer-tiny")
# Images of the batch-norm estimate after each cycle, and those its mIoU is logged on.
ESTIMATED, LOGGED = 4096, 128


def initial(seed: int) -> SCHP:
    """The untrained small SCHP, a function of ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        network = SCHP(TINY)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
    return network


def initial_task(kind: str, seed: int, manner: Manner = OURS) -> ParsingTask:
    """An untrained network with its losses, a function of ``seed`` alone. manner: of the losses,
    and of what refines the labels in the cycles; their rates are this recipe's own.
    """
    if kind == "schp-tiny":
        return ParsingTask(initial(seed), cost=COST, manner=manner)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return ParsingTask(segformer.untrained(), align_corners=False, cost=COST, manner=manner)


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


def parser_of(kind: str, network: nn.Module, device: str) -> Parser:
    """A parser that computes with a copy of ``network``'s weights."""
    return load_parser(kind, dict(network.state_dict()), device=device)


@dataclass(frozen=True)
class Budget:
    """Epochs at the small and the full size, then in each of ``cycles`` self-correction cycles."""

    small: int
    full: int
    cycles: int
    cycle_epochs: int


def stages(
    batches: MannequinBatches,
    budget: Budget,
    lr: float,
    correction: SelfCorrection,
) -> list[Stage]:
    """Small images, full size with a running average, then self-correction cycles, each of which
    restarts at half the rate of the stage before them, as published."""
    optimiser = Optimiser("adamw", lr=lr, weight_decay=0.02, decay_matrices_only=True)
    height, width = TINY_INPUT
    small = batches.resized((height * 2 // 3, width * 2 // 3))
    full_lr = lr * 2 / 3
    listed = [
        Stage(
            "small",
            budget.small,
            small,
            optimiser=optimiser,
            schedule=OneCycle(rise=0.15, final_division=10),
            clip=5.0,
        ),
        Stage(
            "full",
            budget.full,
            batches,
            optimiser=replace(optimiser, lr=full_lr),
            schedule=OneCycle(rise=0.1, start_division=5, final_division=100),
            clip=5.0,
            ema=0.998,
        ),
    ]
    listed += [
        Stage(
            f"cycle-{number}",
            budget.cycle_epochs,
            replace(batches, seed=derive_seed(batches.seed, "cycle", number)),
            optimiser=replace(optimiser, lr=full_lr / 2),
            schedule=OneCycle(rise=0.05, start_division=10, final_division=100),
            clip=5.0,
            hooks=[correction],
        )
        for number in range(1, budget.cycles + 1)
    ]
    return listed


@click.command(cls=ToldCommand, context_settings=CONTEXT)
@click.option("--out", type=TypedPath(), required=True, help="folder to write to")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--images", type=COUNT, default=24000, show_default=True, help="generated training images"
)
@click.option(
    "--epochs", nargs=4, default=(8, 4, 6, 1), show_default=True, help="small, full, cycles, each"
)
@click.option("--batch", type=COUNT, default=8, show_default=True, help="images per step")
@click.option("--lr", default=1e-2, show_default=True, help="peak rate; two thirds at full size")
@click.option("--strength", default=0.4, show_default=True, help="of the augmentation, 0..1")
@click.option("--manner", type=click.Choice(tuple(MANNERS)), default="ours", show_default=True)
@click.option("--scored", type=COUNT, help="score this many images  [default: all 512]")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", default="bf16", show_default=True)
def main(
    out: Path,
    kind: str,
    seed: int,
    images: int,
    epochs: tuple[int, int, int, int],
    batch: int,
    lr: float,
    strength: float,
    manner: str,
    scored: int | None,
    device: str,
    precision: str,
) -> None:
    """Train a parser and write its weights and a .json that says how they were made.

    A run that was stopped goes on from its last state when the command is repeated; with options
    that decide another result it is refused.

    Example: python -m parsing_models.training.small --out build/schp-tiny --seed 0
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    runtime = Runtime.create(device, precision, join=True)
    decides = {
        "kind": kind, "seed": seed, "images": images, "epochs": epochs, "batch": batch, "lr": lr,
        "strength": strength, "manner": manner, "precision": precision,
    }  # fmt: skip
    check_begun(out, decides, runtime)
    batches = MannequinBatches.render(
        images, TINY_INPUT, batch=batch, seed=WORLD + seed, strength=strength
    )
    batches.rgb = kind == segformer.KIND
    task = initial_task(kind, seed, MANNERS[manner])
    correction = SelfCorrection(
        batches.first(ESTIMATED),
        lambda network: score(parser_of(kind, network, device), scored or LOGGED)["mIoU"],
    )
    result = train(
        task,
        stages(batches, Budget(*epochs), lr, correction),
        runtime=runtime,
        folder=out,
        seed=seed,
        progress=True,
        watching=Watching(),
        channels_last=True,
    )
    if correction.cycle:
        correction.finish(task)
    weights = out / f"{kind}.safetensors"
    if runtime.main:
        save_half(task.network, weights)
    runtime.barrier()  # the others read what the first one wrote
    scores = score(load_parser(kind, weights, device=device), scored)
    if runtime.main:
        about = {
            "command": (
                f"python -m parsing_models.training.small --out DIR --kind {kind} --seed {seed} "
                f"--images {images} --epochs {' '.join(map(str, epochs))} --batch {batch} "
                f"--lr {lr} --strength {strength} --precision {precision}"
                + (f" --manner {manner}" if manner != "ours" else "")
            ),
            "seed": seed,
            "input_size": list(TINY_INPUT),
            "label_set": LIP.name,
            "sha256": sha256_file(weights),
            "cycles": [round(value, 4) for value in correction.history],
            "training": {"images_per_s": round(result.images_per_s, 1), **result.figures},
            "runtime": runtime.facts(),
            "versions": versions(),
            "scores": scores,
        }
        write_json(weights.with_suffix(".json"), about)
        click.echo(f"mIoU {scores['mIoU']:.4f} on {scores['images']} images; {weights}")
    runtime.barrier()


def save_half(network: nn.Module, path: Path) -> None:
    """Write the weights as float16: half the size, and no label of a map depends on the rest."""
    from safetensors.torch import save_file

    tensors = {
        key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


if __name__ == "__main__":
    main()
