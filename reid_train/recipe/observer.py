"""What happens to a model in training after its epochs: validation, and the epochs that are kept.

An epoch's model is written as any model is and evaluated from its files by the worker of the step
``evaluation``, so its figures are those that ``reidpipe eval RUN@EPOCH`` prints of the same images,
and nothing that trains is touched.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.epochs import HEADS, VALIDATION, kept, place
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import read_index
from reid_train.engine.checkpoint import save_tensors, save_weights
from reid_train.engine.log import LOG, read_log
from reid_train.evaluation.results import measures
from reid_train.evaluation.work import evaluate
from reid_train.recipe.validation import overlap

if TYPE_CHECKING:
    from reid_train.engine.reached import EpochEnd, TrainResult

DESK = "validating"

log = logging.getLogger(__name__)


def parted(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State of a recipe's task -> that of the model, and that of the heads by their names."""
    model = {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
    return model, {k: v for k, v in weights.items() if k.startswith("heads.")}


class Observer:
    """Called by the loop after every epoch (``EpochEnd``); ``finish`` when training is over.

    What it did in a session that was stopped it reads from the log, whose lines after the saved
    position are gone: nothing is counted twice.
    """

    def __init__(
        self,
        job: Job,
        stages: Mapping[str, int],
        about: Callable[[TrainResult], dict[str, Any]],
    ) -> None:
        """stages: name -> epochs, in order. about: ``model.json`` of a model that has come so
        far.
        """
        self.folder, self.device = job.folder, job.device
        self.workspace, self.trained_on = job.workspace, job.inputs["index"]
        self.validation, self.keep = job.validation, job.keep
        self.epochs = sum(stages.values())
        self.before: dict[str, int] = {}  # epochs of the stages before
        for name, count in stages.items():
            self.before[name] = sum(stages[other] for other in self.before)
            del count
        self.about = about
        self.asked = self.validation is not None or self.keep.every is not None
        self.new = True
        self.seen: list[dict[str, Any]] | None = None
        self.conditions: dict[str, Any] = {}

    def __call__(self, end: EpochEnd) -> None:
        if not self.asked:
            return
        self._warn(end.number)
        self._prune()
        looks = self.validation is not None and self.validation.due(end.number, self.epochs)
        keeps = self.keep.by_number(end.number, self.epochs)
        if not looks and not keeps:
            return
        desk = self.folder / DESK
        shutil.rmtree(desk, ignore_errors=True)
        model, heads = parted(end.weights)
        (desk / "model").mkdir(parents=True)
        started = time.monotonic()
        meta = {**self.about(end.result), "epoch": end.number, "model_key": self.folder.name}
        if heads:
            save_tensors(desk / "model" / HEADS, heads)
        save_weights(desk / "model", model, meta)
        if looks:
            rows, figures = self.rows, self._validate(desk)
            where = {name: self.conditions[name] for name in ("dataset", "protocol")}
            seconds = time.monotonic() - started
            end.log.validation(end.epoch, figures=figures, seconds=seconds, **where)
            rows.append(
                {
                    "stage": end.stage.name,
                    "epoch": end.number,
                    **where,
                    **figures,
                    "seconds": round(seconds, 3),
                }
            )
            leads = self._leading()[-1] == end.number
            keeps = keeps or (self.keep.best and leads and not end.last)
        if keeps:
            target = place(self.folder, end.number)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            (desk / "model").replace(target)
        shutil.rmtree(desk)

    def finish(self) -> None:
        """Write ``validation.json``."""
        shutil.rmtree(self.folder / DESK, ignore_errors=True)
        if not self.asked:
            return
        self._prune()
        if self.validation is None:
            return
        told = overlap(read_index(self.trained_on), read_index(self.validation.index))
        write_json(
            self.folder / VALIDATION,
            {
                **self.conditions,
                "told": told,
                "epochs": self.rows,
                "best": self._leading()[-1],
                "seconds": round(sum(row["seconds"] for row in self.rows), 3),
            },
        )

    def _validate(self, desk: Path) -> dict[str, float]:
        assert self.validation is not None
        (desk / "evaluation").mkdir()
        found = evaluate(
            Job(
                folder=desk / "evaluation",
                params={"rerank": None, **self.validation.params},
                inputs={
                    "model": desk / "model",
                    "index": self.validation.index,
                    "images": self.validation.images,
                },
                workspace=self.workspace,
                device=self.device,
            )
        )
        told = ("dataset", "protocol", "exclude", "distance", "queries", "valid_queries", "gallery")
        self.conditions = {name: found[name] for name in told}
        self.conditions["flip"] = bool(self.validation.params["flip"])
        return measures(found)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The validations so far on these images, by the number of their epoch over all stages."""
        if self.seen is None:
            dataset = None if self.validation is None else read_index(self.validation.index).dataset
            self.seen = []
            for entry in read_log(self.folder / LOG):
                if entry["event"] == "validation" and entry["dataset"] == dataset:
                    number = self.before[entry["stage"]] + entry["epoch"] + 1
                    figures = {k: v for k, v in entry.items() if k != "event"}
                    self.seen.append({**figures, "epoch": number})
        return self.seen

    def _leading(self) -> list[int]:
        """Epochs that had the highest mAP of all until then; of equal ones the first."""
        found: list[dict[str, Any]] = []
        for row in self.rows:
            if not found or row["mAP"] > found[-1]["mAP"]:
                found.append(row)
        return [row["epoch"] for row in found]

    def _prune(self) -> None:
        """Delete the epochs that were the best and are no more. One that is overtaken goes when the
        position after it is saved: a run killed before that may need it again.
        """
        if self.keep.best:
            for number in self._leading()[:-1]:
                if not self.keep.by_number(number, self.epochs):
                    shutil.rmtree(place(self.folder, number), ignore_errors=True)

    def _warn(self, number: int) -> None:
        """Of epochs that were over before anybody asked to look at them or to keep them."""
        if not self.new:
            return
        self.new = False
        seen = {row["epoch"] for row in self.rows}
        for option, due, there in (
            ("--eval-every", self.validation and self.validation.due, seen),
            ("--keep", self.keep.by_number, set(kept(self.folder))),
        ):
            lost = [n for n in range(1, number) if due and due(n, self.epochs) and n not in there]
            if lost:
                log.warning(
                    "found this training at epoch %d of %d; %s comes too late for epoch %s",
                    *(number, self.epochs, option, ", ".join(map(str, lost))),
                )
