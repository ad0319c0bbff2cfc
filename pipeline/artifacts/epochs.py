"""Kept epochs of a training: ``epochs/0004/`` in the model's artifact, ``RUN@4`` in words.

The model itself is always the last epoch. A kept one becomes an artifact of its own, a step of kind
``epoch``, when something is asked of it, so that whatever takes a model takes it too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.artifacts.atomic import parse_json, replacing, write_text
from pipeline.artifacts.checked import checked, read_json
from pipeline.artifacts.steps import Job, Step
from pipeline.artifacts.store import Workspace
from pipeline.artifacts.validation import Keep, Validation
from pipeline.terminal.errors import DamagedFile, ReidpipeError

EPOCHS = "epochs"
VALIDATION = "validation.json"
META, WEIGHTS, LOG = "model.json", "model.safetensors", "log.jsonl"
# Classifiers of a training; models of before they were kept have none.
HEADS = "heads.safetensors"


def place(model: Path, epoch: int) -> Path:
    """Folder of a kept epoch of the model in ``model``."""
    return model / EPOCHS / f"{epoch:04d}"


def kept(model: Path) -> list[int]:
    """Epochs kept beside the model in ``model``, in order; not one that is half written, and none
    that is a link.
    """
    found = [path for path in (model / EPOCHS).glob("*") if path.name.isdecimal()]
    return sorted(int(path.name) for path in found if {META, WEIGHTS} <= set(_files(path)))


def _files(folder: Path) -> list[str]:
    """Which of a model's files are in a kept epoch's folder, ``META`` last."""
    if folder.is_symlink():
        return []
    paths = [folder / name for name in (WEIGHTS, HEADS, META)]
    return [path.name for path in paths if path.is_file() and not path.is_symlink()]


def length(model: Step) -> int:
    """How many epochs its training has; 0 of a file that was imported."""
    return sum(stage["epochs"] for stage in model.params["recipe"].get("stages", ()))


def validated(model: Path) -> dict[str, Any] | None:
    """``validation.json`` of a training that looked at other images: ``epochs``, a list of figures
    with the number ``epoch`` and ``mAP`` each, and ``best``. None where there is none. Raises
    DamagedFile for one that is not so.
    """
    path = model / VALIDATION
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        rows = [(int(row["epoch"]), float(row["mAP"])) for row in found["epochs"]]
        if found["best"] not in [epoch for epoch, _ in rows]:
            raise KeyError("best")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"found {path} without {error}; expected the figures of each epoch; type reidpipe "
            "cache verify --repair"
        ) from error
    return found


def step_of(model: Step, epoch: int) -> Step:
    """A kept epoch of a model, as a step of the same parameters; what else its training stood on
    has ``trained``.
    """
    inputs = {"model": model, **{k: v for k, v in model.inputs.items() if k == "index"}}
    return Step("epoch", {**model.params, "epoch": epoch}, inputs, keyed={"epoch": epoch})


def trained(model: Step) -> Step:
    """The training that a model, or a kept epoch of one, came from."""
    return model.inputs["model"] if model.name == "epoch" else model


def folder_of(workspace: Workspace, step: Step) -> Path:
    """Where the files of a kept epoch are: in its artifact, or while nobody made one, in the
    model's.
    """
    if workspace.complete(step):
        return workspace.folder(step)
    return place(workspace.folder(step.inputs["model"]), step.params["epoch"])


def chosen(workspace: Workspace, run: str, model: Step, epoch: str) -> tuple[str, Step]:
    """Name and step of ``RUN@epoch``: ``best``, ``last`` or a number.

    Raises ReidpipeError for an epoch that was not kept, saying which were.
    """
    if epoch == "last":
        return run, model
    folder, last = workspace.folder(model), length(model)
    if epoch == "best":
        found = validated(folder)
        if found is None:
            raise ReidpipeError(
                f"found no validation of {run}, which would say its best epoch; expected a "
                f"training with --eval-every; {_again(model, '--eval-every 1 --keep best')}, or "
                f"{run} for the last epoch"
            )
        number = int(found["best"])
    elif epoch.isdecimal():
        number = int(epoch)
    else:
        raise ReidpipeError(
            f"found '{epoch}' after the @ of {run}; expected best, last or the number of an epoch; "
            f"type {run}@{(*kept(folder), last)[0]}"
        )
    name, step = f"{run}@{number}", step_of(model, number)
    if number == last:
        return name, model
    if not workspace.complete(step) and number not in kept(folder):
        raise ReidpipeError(_not_kept(run, model, number, kept(folder)))
    return name, step


def _not_kept(run: str, model: Step, epoch: int, there: list[int]) -> str:
    last = length(model)
    if not 1 <= epoch <= last:
        cure = f"type {run}@{(*there, last)[0]}"
    else:
        cure = _again(model, f"--keep {epoch}")
    held = f"{', '.join(map(str, there))} and the last, {last}" if there else f"the last, {last}"
    return f"found no epoch {epoch} of {run}; expected one that was kept: {held}; {cure}"


def _again(model: Step, options: str) -> str:
    return (
        f"type reidpipe cache rm {model.key[:8]}, then its reidpipe train with {options}, which "
        "gives the same weights"
    )


def check_complete(
    workspace: Workspace, model: Step, validation: Validation | None, keep: Keep
) -> None:
    """Raise ReidpipeError for a model that is complete, and without the validation or the epochs
    that are asked for now: what is over cannot be looked at any more.
    """
    if not workspace.complete(model):
        return
    folder, last = workspace.folder(model), length(model)
    found, there = validated(folder), [*kept(folder), last]
    seen = [row["epoch"] for row in found["epochs"]] if found else []
    wanted = {
        "--eval-every": _lacking(last, seen, validation and validation.due),
        "--keep": _lacking(last, there, keep.by_number)
        + ([found["best"]] if keep.best and found and found["best"] not in there else []),
    }
    for option, epochs in wanted.items():
        if epochs:
            shown = ", ".join(map(str, epochs[:5])) + (", ..." if len(epochs) > 5 else "")
            done = "validation" if option == "--eval-every" else "weights"
            raise ReidpipeError(
                f"found this model trained already, and no {done} of epoch {shown} of {last}; "
                f"expected {option} before the training; {_again(model, 'the same options')}; or "
                f"leave {option} out"
            )


def _lacking(last: int, there: list[int], due: Callable[[int, int], bool] | None) -> list[int]:
    return [n for n in range(1, last + 1) if due is not None and due(n, last) and n not in there]


def take(job: Job) -> dict[str, Any]:
    """Worker of the step "epoch": the files of a kept epoch, and the training's log up to it.

    inputs: model. params: ``epoch``, its number counted from 1 over all stages. Raises
    ReidpipeError when it was not kept.
    """
    number = job.params["epoch"]
    source = place(job.inputs["model"], number)
    if number not in kept(job.inputs["model"]):
        raise ReidpipeError(
            f"found no epoch {number} in {source.parent}; expected one that was kept; type the "
            f"reidpipe train of {job.inputs['model'].name[:8]} with --keep {number}"
        )
    for name in _files(source):
        with replacing(job.folder / name) as temporary:
            shutil.copyfile(checked(source / name), temporary)
    write_text(job.folder / LOG, _log_until(job.inputs["model"] / LOG, number))
    return atomic.read_json(job.folder / META)["training"]


def _log_until(log: Path, number: int) -> str:
    """The lines of a log until ``number`` epochs were over, validation included."""
    kept_lines, over = [], 0
    for line in log.read_bytes().decode("utf-8", "replace").splitlines(keepends=True):
        try:
            event = parse_json(line)["event"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"found a line of {log} damaged ({error}); expected one JSON object per line; to "
                f"train again type reidpipe cache rm {log.parent.name} and the same command"
            ) from error
        if over == number and event != "validation":
            break
        kept_lines.append(line)
        over += event == "epoch"
    return "".join(kept_lines)
