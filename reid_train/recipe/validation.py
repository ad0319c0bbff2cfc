"""``train --eval-every K --eval-on D --keep best,last,K``: what they ask for, checked and told.

Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.artifacts.epochs import check_complete, kept, length, validated
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.validation import LAST_ONLY, Keep, Validation
from pipeline.datasets.catalogue import defined
from pipeline.datasets.index import Index, read_index
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.needs import check_test
from reid_train.evaluation.results import evaluation_step

TEST = ("query", "gallery")


@dataclass(frozen=True)
class Looked:
    """What a training looks at and keeps, as one command asked for it. evaluation: the step whose
    conditions and inputs its validation has.
    """

    evaluation: Step | None = None
    every: int = 0
    keep: Keep = LAST_ONLY

    @property
    def steps(self) -> list[Step]:
        """What must be there before training begins; no input of the model's."""
        inputs = {} if self.evaluation is None else self.evaluation.inputs
        return [inputs[name] for name in ("index", "images") if name in inputs]

    def execution(self, workspace: Workspace, execution: Execution) -> Execution:
        """``execution`` with this in it."""
        validation = None
        if self.evaluation is not None:
            index, images = (workspace.folder(step) for step in self.steps)
            validation = Validation(self.every, index, images, dict(self.evaluation.params))
        return replace(execution, validation=validation, keep=self.keep)

    def check(self, terminal: Terminal, model: Step) -> None:
        """Say what the validation's figures must not be taken for. Raises ReidpipeError where its
        images, whose index exists, cannot be evaluated on.
        """
        if self.evaluation is None or terminal.workspace.complete(model):
            return
        folders = [step.inputs["index"] for step in (model, self.evaluation)]
        trained, looked = (read_index(terminal.workspace.folder(step)) for step in folders)
        check_test(looked, self.evaluation.params, run=None)
        if (told := overlap(trained, looked)) is not None:
            terminal.note(told)


def asked(
    terminal: Terminal, model: Step, *, every: int | None, on: str | None, keep: str | None
) -> Looked:
    """The options of ``train`` for a model step. Raises ReidpipeError, before any work, for those
    that do not go together, for a dataset that names no validation, and for a model that is
    complete without what is asked for.
    """
    keeps = read_keep(keep)
    if every is None:
        for option, given in (("--eval-on " + str(on), on), ("--keep best", keeps.best or None)):
            if given is not None:
                raise ReidpipeError(
                    f"found {option} without --eval-every; expected after how many epochs to "
                    "evaluate; type --eval-every 1"
                )
        looked = Looked(keep=keeps)
    else:
        target = on or _validation_of(model.inputs["index"])
        looked = Looked(evaluation_step(terminal, model, dataset=target), every, keeps)
    execution = looked.execution(terminal.workspace, Execution())
    check_complete(terminal.workspace, model, execution.validation, keeps)
    return looked


def _validation_of(index: Step) -> str:
    manifest = defined(index.params["dataset"], index.params.get("definition"))
    if manifest is None or manifest.validation is None:
        typed = manifest.typed if manifest else index.params["dataset"]
        raise ReidpipeError(
            f"found no validation images named for {typed}, whose test images are for the result; "
            "expected other people to look at while training; type --eval-on DATASET[:VARIANT], "
            "such as --eval-on mannequins:validation"
        )
    return manifest.validation


def read_keep(text: str | None) -> Keep:
    """``best,last,K``: any of them, in any order. Raises ReidpipeError for anything else."""
    best, every = False, None
    for word in [] if text is None else [part.strip() for part in text.split(",")]:
        if word == "best":
            best = True
        elif word.isdecimal() and int(word) and every is None:
            every = int(word)
        elif word != "last":
            raise ReidpipeError(
                f"found '{word}' in --keep {text}; expected best, last and at most one number K of "
                "epochs, separated by commas; type --keep best,last,10"
            )
    return Keep(best, every)


def overlap(trained: Index, looked: Index) -> str | None:
    """What is wrong with choosing an epoch by the query and gallery images of ``looked``, for a
    model trained on ``trained``: that they are its test images, or its training images. The same
    bytes are the same image.
    """
    images = _images(looked, TEST)
    if shared := len(images & _images(trained, TEST)):
        return (
            f"validation: {shared} of the {len(images)} images of {looked.dataset} are test images "
            f"of {trained.dataset}: whoever chooses an epoch by them chooses on the test"
        )
    if shared := len(images & _images(trained, ("train",))):
        return (
            f"validation: {shared} of the {len(images)} images of {looked.dataset} are trained on: "
            "its figures are of people the model knows"
        )
    return None


def _images(index: Index, splits: tuple[str, ...]) -> set[str]:
    return {row.digest or row.key for row in index.rows if row.split in splits}


def told(workspace: Workspace, run: str, model: Step) -> tuple[list[str], dict[str, Any]]:
    """Lines about the validation and the kept epochs of a complete model, and their facts."""
    folder = workspace.folder(model)
    found, there = validated(folder), kept(folder)
    lines, facts = [], {"validation": found, "kept": there}
    if found is not None:
        best = next(row for row in found["epochs"] if row["epoch"] == found["best"])
        trained = workspace.provenance(model)["summary"]["seconds"]
        lines.append(
            f"validation: {len(found['epochs'])} times on {found['dataset']} (protocol "
            f"{found['protocol']}), {found['seconds']:.1f} s beside {trained:.1f} s of training "
            f"({100 * found['seconds'] / max(trained, 1e-9):.0f} %); best mAP "
            f"{100 * best['mAP']:.1f} % after epoch {found['best']} of {length(model)}"
        )
        if found["told"]:
            lines.append(found["told"])
    if there:
        names = " ".join(f"{run}@{number}" for number in there)
        lines.append(f"kept: {names}, and the last as {run}")
    return lines, facts
