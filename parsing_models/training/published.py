"""SCHP's published training on a parsing dataset: ``python -m parsing_models.training.published``.

Li et al. (2019) as their code has it: 100 epochs of SGD with warm-up and a cosine, then cycles of
10 epochs that restart at half the rate, an average over their ends, labels refined by it; in which
points other manners differ says ``manner.Manner``. The consistency term is left out
(``task.ParsingTask`` says why).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from parsing_models import load_parser
from parsing_models.networks.schp.network import SCHP, TINY, Widths
from parsing_models.parsers.catalogue import saying
from parsing_models.parsers.interface import Preprocessing
from parsing_models.parsers.schp import MEAN_BGR, PUBLISHED, STD_BGR
from parsing_models.scoring import Confusion, read_annotation
from parsing_models.training.batches.labelled import LabelledBatches
from parsing_models.training.cycles import Schedule
from parsing_models.training.manner import MANNERS
from parsing_models.training.task import ParsingTask
from pipeline.artifacts import graph
from pipeline.artifacts.atomic import sha256_file, write_json
from pipeline.artifacts.store import Execution, Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import ImageRow, Index, read_index
from pipeline.datasets.sources import index_step
from pipeline.images.pixels import decode
from pipeline.labels.sets import LABEL_SETS, LIP, LabelSet
from pipeline.terminal.commandline import CONTEXT, WORKSPACE, ToldCommand
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.options import COUNT
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.watching import Watching
from reid_train.engine.begun import check_begun
from reid_train.engine.checkpoint import load_strict, read_state_dict, save_weights
from reid_train.engine.loop import train
from reid_train.engine.runtime import Runtime, derive_seed

NETWORKS = {"schp": Widths(), "schp-tiny": TINY}
# What an ImageNet classifier lacks.
HEADS = ("context_encoding.*", "edge.*", "decoder.*", "fushion.*")


def label_set_of(dataset: str) -> LabelSet:
    """The label set of a dataset's ground truth. Raises ReidpipeError when it has none."""
    if dataset.partition(":")[0] == "mannequins":
        return LIP
    name = load_manifest(dataset).label_set
    if name is None:
        raise ReidpipeError(
            f"found no label maps in dataset '{dataset}'; expected a parsing dataset: lip, atr, "
            "cihp, pascal_person_part, mannequins; type --dataset lip"
        )
    if name not in LABEL_SETS:
        raise ReidpipeError(
            f"found dataset '{dataset}' with labels of '{name}', which are for scoring alone; "
            f"expected labels of {', '.join(LABEL_SETS)}; type --dataset lip"
        )
    return LABEL_SETS[name]


def score_network(
    network: nn.Module, size: tuple[int, int], index: Index, truth: LabelSet, device: str
) -> dict:
    """mIoU of SCHP on the rows that are not for training, maps at each image's own size."""
    state = dict(network.state_dict())
    parser = load_parser("schp", state, device=device, label_set=truth, input_size=size)
    confusion = Confusion(truth)
    for row in held_out(index):
        image = decode(index.original(row), decoding=index.decoding)
        expected = read_annotation(index.root, row, truth)
        confusion.add(expected, parser.parse([image], None).label[0])
    return confusion.scores()


def held_out(index: Index) -> list[ImageRow]:
    """Rows with a label map outside the train split."""
    return [row for row in index.rows if row.split != "train" and row.extra.get("label_path")]


@click.command(cls=ToldCommand, context_settings=CONTEXT)
@click.option("--dataset", default="lip", show_default=True, help="A prepared parsing dataset.")
@WORKSPACE
@click.option("--out", type=TypedPath(), required=True, help="folder to write to")
@click.option("--network", type=click.Choice(tuple(NETWORKS)), default="schp", show_default=True)
@click.option(
    "--imagenet",
    type=TypedPath(),
    help="ImageNet weights of the deep-stem ResNet-101 to start from.",
)
@click.option("--input-size", nargs=2, type=int, help="H W  [default: the label set's published]")
@click.option(
    "--batch",
    type=COUNT,
    default=48,
    show_default=True,
    help="images per step, over all processes",
)
@click.option("--epochs", default=100, show_default=True, help="before the cycles")
@click.option("--cycles", nargs=2, default=(5, 10), show_default=True, help="number, epochs each")
@click.option("--lr", default=7e-3, show_default=True)
@click.option(
    "--manner",
    type=click.Choice(tuple(MANNERS)),
    default="published",
    show_default=True,
    help="As the authors' code has it, without its evident slips, or as our own parsers.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--workers", type=COUNT, default=4, show_default=True, help="threads that read images"
)
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
def main(
    dataset: str,
    workspace: Path,
    out: Path,
    network: str,
    imagenet: Path | None,
    input_size: tuple[int, int] | None,
    batch: int,
    epochs: int,
    cycles: tuple[int, int],
    lr: float,
    manner: str,
    seed: int,
    workers: int,
    device: str,
    precision: str,
) -> None:
    """Train SCHP and write model.safetensors, which --model schp --weights reads.

    A run that was stopped goes on from its last state when the command is repeated; with options
    that decide another result it is refused.

    Example: python -m parsing_models.training.published --dataset lip --imagenet resnet101.pth
    --out build/schp
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    place = Workspace(workspace)
    step = index_step(place, dataset)
    graph.run(place, [step], Execution(device=device))
    index = read_index(place.folder(step))
    truth = label_set_of(dataset)
    size = input_size or PUBLISHED[len(truth)][1]
    given = Preprocessing(size, "bgr", MEAN_BGR, STD_BGR)
    runtime = Runtime.create(device, precision, join=True)
    if not held_out(index):
        raise ReidpipeError(
            f"found label maps of '{dataset}' in the train split alone; expected some outside it, "
            "on which every average is scored; give some of its images the split val"
        )
    decides = {
        "dataset": dataset, "index": step.key, "network": network, "input_size": size,
        "imagenet": None if imagenet is None else sha256_file(imagenet), "batch": batch,
        "epochs": epochs, "cycles": cycles, "lr": lr, "manner": manner, "seed": seed,
        "precision": precision,
    }  # fmt: skip
    check_begun(out, decides, runtime)
    widths = replace(NETWORKS[network], classes=len(truth))
    task = ParsingTask(initial(widths, seed, imagenet), manner=MANNERS[manner])
    batches = LabelledBatches(
        index.root, index.split("train"), truth, given, batch=batch, seed=seed, workers=workers,
        decoding=index.decoding,
    )  # fmt: skip
    warmup = min(10, max(1, epochs // 10))  # published: 10 of 100
    schedule = Schedule(epochs, warmup, *cycles, lr=lr, manner=MANNERS[manner])
    correction = schedule.correction(
        batches, lambda average: score_network(average, size, index, truth, device)["mIoU"]
    )
    stages = schedule.stages(batches, correction)
    result = train(
        task, stages, runtime=runtime, folder=out, seed=seed, progress=True, watching=Watching()
    )
    if correction.cycle:
        correction.finish(task)
    # In every process, each on its device: waiting for one would be longer than groups wait.
    scores = score_network(task.network, size, index, truth, device)
    meta = {
        "parser": "schp",
        "label_set": truth.to_json(),
        "input_size": list(size),
        "dataset": dataset,
        "seed": seed,
        "manner": manner,
        "cycles": correction.history,
        "training": result.figures,
        "scores": {**scores, "images": len(held_out(index)), "protocol": PROTOCOL},
    }
    if runtime.main:
        save_parser(out, task.network, truth, size, meta)
        write_json(out / "scores.json", meta["scores"])
        click.echo(f"mIoU {scores['mIoU']} on {len(held_out(index))} images; {out}")
    runtime.barrier()


PROTOCOL = (
    "all images outside the train split, maps at each image's own size, no test-time options; IoU "
    "per class from one confusion matrix over all pixels, mean over the classes that occur"
)


def save_parser(
    out: Path, network: nn.Module, truth: LabelSet, size: tuple[int, int], meta: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors``, which says label set and input size itself, and ``model.json``:
    20 classes may be those of LIP or of CIHP, and the file is read without its folder.
    """
    said = saying({"label_set": truth.name, "input_size": list(size)})
    save_weights(out, network.state_dict(), meta, inside=said)


def initial(widths: Widths, seed: int, imagenet: Path | None) -> SCHP:
    """SCHP with freshly drawn heads, its backbone from an ImageNet file when one is given.

    Raises ReidpipeError when the file is not of the same backbone (the deep-stem ResNet-101 that
    the authors link, not torchvision's).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        network = SCHP(widths)
    if imagenet is not None:
        state = {
            key: value
            for key, value in read_state_dict(imagenet).items()
            if not key.startswith("fc.")
        }
        load_strict(network, state, optional=HEADS, source=str(imagenet))
    return network


if __name__ == "__main__":
    main()
