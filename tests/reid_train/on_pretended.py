"""Whole commands on a GPU that is not there: ``python -m tests.reid_train.on_pretended FOLDER``
prints, by command, the error it ended with (none: null) and how often a step's host waited.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from parsing_models.networks.schp.network import SCHP, TINY
from parsing_models.training.manner import PUBLISHED
from parsing_models.training.self_correction import SelfCorrection
from parsing_models.training.task import ParsingTask
from pipeline.artifacts.steps import Job
from pipeline.labels.sets import IGNORE
from pipeline.mannequins import DEFAULTS, checked, render
from reid_train.engine import loop
from reid_train.engine import runtime as place
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import Stage
from reid_train.recipe.loading import load_recipe
from tests.cli.conftest import SMALL, Console
from tests.conftest import PROJECT
from tests.reid_train.pretended import begin, gpu

DEVICE = torch.device("privateuseone", 0)  # which ``begin`` calls ``NAME``


def main(folder: str, *chosen: str) -> None:
    begin()
    people = Path(folder) / "people"
    people.mkdir()
    render(Job(folder=people, params=checked(DEFAULTS | SMALL), inputs={}, workspace=people))
    (people / "dataset.json").unlink()
    console = Console(Path(folder) / "workspace")
    console("prepare", "folder", "--root", people)
    told: dict[str, Any] = {}
    for words in COMMANDS:
        if chosen and not any(c in words for c in chosen):
            continue
        told[" ".join(words)] = ended(lambda words=words: console(*words))
    if not chosen or "schp" in chosen:
        told["published training of SCHP"] = ended(lambda: trained_parser(Path(folder) / "schp"))
    with gpu():
        told["mistakes"] = {"error": None, "waits": seen()}
    sys.stdout.write(json.dumps(told) + "\n")


SMALL_TEXT = ("width=32", "layers=2", "heads=2", "output_dim=16")
OF_TRUNK = {
    "clip-vit-b16": ("width=32", "layers=2", "heads=2", "output_dim=16"),
    "clip-rn50": ("width=8", "layers=[1,1,1,1]", "heads=4", "output_dim=16"),
    "resnet50": ("layers=[1,1,1,1]",),
    "ianet": ("layers=[1,1,1,1]",),
}


# Each is an error on a GPU.
MISTAKES: dict[str, Callable[[], Any]] = {
    "two devices": lambda: _there() + torch.ones(3),
    "numpy of what is elsewhere": lambda: _there().numpy(),
    "a generator of the CPU": lambda: torch.rand(3, generator=torch.Generator(), device=DEVICE),
    "indices on the GPU for rows on the CPU": lambda: torch.ones(3)[_there().long()],
    "a half and a float": lambda: _there().half()[None] @ _there()[:, None],
}


def _there() -> torch.Tensor:
    return torch.ones(3).to(DEVICE)


def seen() -> dict[str, int]:
    """Mistakes that are made on purpose: 1 where it was an error."""
    found = {}
    for name, mistake in MISTAKES.items():
        try:
            mistake()
            found[name] = 0
        except RuntimeError:
            found[name] = 1
    return found


class Labelled:
    """A batch of random images and label maps, twice."""

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(2):
            labels = torch.randint(20, (2, 64, 32), generator=generator)
            labels[:, :8] = IGNORE
            yield {"images": torch.randn(2, 3, 64, 32, generator=generator), "labels": labels}


def trained_parser(folder: Path) -> None:
    """SCHP's own training: before the cycles, and one cycle with its teacher."""
    batches, runtime = Labelled(), Runtime.create()
    correction = SelfCorrection(batches, start=1, length=1)
    stage = Stage("parsing", 2, batches, Optimiser("sgd", lr=1e-3), hooks=[correction])
    task = ParsingTask(SCHP(TINY), manner=PUBLISHED)
    loop.train(task, [stage], runtime=runtime, folder=folder)
    correction.finish(task)


def settings(name: str) -> list[str]:
    """Words that make a recipe's training short and its networks small."""
    recipe = load_recipe(name)
    found = [f"model.options.{part}" for part in OF_TRUNK.get(recipe.model.trunk, ())]
    if recipe.model.text is not None and recipe.model.text.architecture != "clip-tiny":
        found += [f"model.text.options.{part}" for part in SMALL_TEXT]
    if recipe.model.teacher is not None:
        found += [f"model.teacher.options.{part}" for part in OF_TRUNK["clip-rn50"]]
        found.append("model.teacher.pretrained=none")
    if recipe.input.size[0] > 128:
        found.append("input.size=[64,32]")
    for stage in recipe.stages:
        data: Any = stage.data
        found.append(f"stages.{stage.name}.epochs=1")
        if data.kind == "identity-batches":
            found += [
                f"stages.{stage.name}.data.ids=2",
                f"stages.{stage.name}.data.images_per_id=2",
            ]
            if data.iterations is not None:
                found.append(f"stages.{stage.name}.data.iterations=2")
        else:
            found.append(f"stages.{stage.name}.data.batch=8")
    if recipe.model.pretrained in ("openai", "imagenet"):
        return [word for part in found for word in ("--set", part)] + ["--pretrained", "none"]
    return [word for part in found for word in ("--set", part)]


# One of each family: what they name covers trunks, heads, losses and hooks of all but the small.
RECIPES = (
    "baseline-tiny", "slicenet2-plus", "resnet50-triplet", "ianet-cosface", "clip-reid-vit-sie-olp",
    "pi-vl-vit-w", "pi-vl-rn50", "pcl-clip", "pcl-clip-usl-tiny",
)  # fmt: skip
COMMANDS: list[tuple[str, ...]] = [
    ("parse", "folder"),
    *(("train", name, "--dataset", "folder", *settings(name)) for name in RECIPES),
    ("eval", "baseline-tiny", "--rerank"),
    ("report", "baseline-tiny"),
]


KEPT: list[Any] = []


def _for_this_thread(device: Any) -> None:
    del device
    KEPT.append(gpu())
    KEPT[-1].__enter__()


def _no_grad(context: Any) -> None:
    context.instead = torch.no_grad()
    context.instead.__enter__()


def _grad_again(context: Any, *error: Any) -> None:
    context.instead.__exit__(*error)


def ended(work: Callable[[], Any]) -> dict[str, Any]:
    """How a piece of work ends on the device."""

    def create(device: str = "auto", precision: str = "fp32", *_: Any, **__: Any) -> Runtime:
        del device
        return Runtime(DEVICE, "bf16" if precision == "auto" else precision)

    with (
        gpu() as mode,
        mock.patch.object(Runtime, "create", create),
        # The threads that compute label maps begin with it.
        mock.patch.object(place, "own_stream", _for_this_thread),
        mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
        # There operations come in one piece, and autocast never sees what they are made of.
        mock.patch.object(torch.inference_mode, "__enter__", _no_grad),
        mock.patch.object(torch.inference_mode, "__exit__", _grad_again),
    ):
        try:
            work()
        except Exception as error:
            lines = [line for line in str(error).splitlines() if "rror" in line] or [str(error)]
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if str(PROJECT) in f.filename and ".venv" not in f.filename]
            places = [f"{Path(f.filename).name}:{f.lineno}" for f in ours[-5:]]
            told = f"{type(error).__name__}: {lines[0][:400]} at {', '.join(places)}"
            return {"error": told, "waits": dict(mode.waits)}
    return {"error": None, "waits": dict(mode.waits)}


if __name__ == "__main__":
    main(*sys.argv[1:])
