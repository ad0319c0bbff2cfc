"""Trainings of a workspace as their logs tell them, running or not. Imports no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts.running import path_of, read_running
from pipeline.artifacts.runs import list_runs, matching_runs
from pipeline.artifacts.steps import closure
from pipeline.artifacts.store import Artifact, Workspace
from pipeline.terminal.board import progress
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.chart import chart
from reid_train.engine.lines import clock, facts, loss_parts
from reid_train.engine.log import LOG, parse_line


@dataclass
class Stage:
    """A stage as far as it has come: lines of the log by event, the steps of its last epoch."""

    name: str
    epochs: int | None = None
    steps: int | None = None
    ended: list[dict[str, Any]] = field(default_factory=list)
    validated: list[dict[str, Any]] = field(default_factory=list)
    under_way: list[dict[str, Any]] = field(default_factory=list)

    def take(self, entry: dict[str, Any]) -> None:
        """A line of this stage."""
        if entry["event"] == "step":
            self.under_way.append(entry)
        elif entry["event"] == "validation":
            self.validated.append(entry)
        elif entry["event"] == "epoch":
            self.ended.append(entry)
            self.under_way = []
            self.epochs = entry.get("epochs", self.epochs)

    def left(self) -> float | None:
        """Seconds to its end at the pace of its epochs; None before the first has ended."""
        if not self.ended or self.epochs is None:
            return None
        done = self.ended[-1]["epoch"] + 1
        done += len(self.under_way) / self.steps if self.steps else 0.0
        pace = sum(entry["seconds"] for entry in self.ended) / len(self.ended)
        return max(self.epochs - done, 0.0) * pace

    def title(self, *, running: bool) -> str:
        """``image: epoch 3/20, step 5/16, loss 1.234, lr 3.5e-04, 512 images/s, 0:12 left``."""
        total = self.epochs or "?"
        if not (self.ended or self.under_way):
            return f"{self.name}: 0/{total} epochs"
        last = self.under_way[-1] if self.under_way else self.ended[-1]
        text = f"{self.name}: epoch {last['epoch'] + 1}/{total}"
        if self.under_way:
            text += f", step {last['step'] + 1}/{self.steps or '?'}"
        text += f", {facts(last, parts=False)}"
        if self.ended:
            text += f", {self.ended[-1]['images_per_s']:.0f} images/s"
        left = self.left()
        return text if left is None or not running else f"{text}, {clock(left)} left"

    def drawing(self, width: int, height: int) -> list[str]:
        """Curves of loss and of validation; of the first epoch its steps."""
        newest = (self.under_way or self.ended)[-1:]
        parts = loss_parts(newest[0]) if newest else {}
        told = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        lines = _indented(told, width) if len(parts) > 1 else []
        points = [(entry["epoch"] + 1.0, entry["loss"]) for entry in self.ended]
        end = self.epochs or len(points)
        if len(points) < 2 and self.under_way:
            points = [(entry["step"] + 1.0, entry["loss"]) for entry in self.under_way]
            end = self.steps or len(points)
            lines.append("  loss by step")
        elif points:
            lines.append("  loss by epoch")
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            lines += chart(points, end=end, width=width, height=height)
        for dataset in dict.fromkeys(entry["dataset"] for entry in self.validated):
            own = [entry for entry in self.validated if entry["dataset"] == dataset]
            lines.append(
                f"  validation mAP on {dataset}, % by epoch (protocol {own[0]['protocol']})"
            )
            shares = [(entry["epoch"] + 1.0, 100 * entry["mAP"]) for entry in own]
            lines += chart(shares, end=self.epochs or len(own), width=width, height=height)
        return lines


class Training:
    """One artifact with a log, of which each ``read`` takes what was written since."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.path = artifact, artifact.folder / LOG
        self.state = "unfinished"
        self._start()

    def _start(self) -> None:
        self.runs: tuple[str, ...] = ()
        self.stages: dict[str, Stage] = {}
        self.offset, self.number, self.last = 0, 0, b""

    def read(self, workspace: Workspace) -> None:
        """Raises DamagedFile."""
        if self.artifact.complete:
            self.state = "finished"
        else:
            self.state = "running" if workspace.being_made(self.artifact) else "stopped"
        with self.path.open("rb") as file:
            # A session that goes on cuts it to the saved position, and may have written on since.
            file.seek(self.offset - len(self.last))
            if file.read(len(self.last)) != self.last:
                self._start()
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.offset, self.number, self.last = self.offset + len(line), self.number + 1, line
                self._take(parse_line(line, self.number, self.path))

    def _take(self, entry: dict[str, Any]) -> None:
        if entry["event"] == "start":
            self.runs = tuple(entry.get("runs", ()))
            for stage in entry["stages"]:
                self.stages[stage["name"]] = Stage(**stage)
        elif (name := entry.get("stage")) is not None:
            self.stages.setdefault(name, Stage(name)).take(entry)

    @property
    def names(self) -> tuple[str, ...]:
        """Runs it is made for: a model's own, else all those of the command that began it."""
        own = [name for name in self.runs if self.artifact.key.startswith(name.rpartition("-")[2])]
        return tuple(own) or self.runs

    def picture(self, width: int, height: int) -> list[str]:
        """All of it as lines of text."""
        about = f" for {', '.join(self.names[:3])}" if self.names else ""
        about += ", ..." if len(self.names) > 3 else ""
        lines = [f"{self.artifact.step} {self.artifact.key[:8]}{about}: {self.state}"]
        for stage in self.stages.values():
            lines.append(stage.title(running=self.state == "running"))
            lines += stage.drawing(width, height)
        return lines

    def plain(self) -> dict[str, Any]:
        """As JSON values; epochs count from 1."""
        return {
            "step": self.artifact.step,
            "key": self.artifact.key,
            "state": self.state,
            "runs": list(self.names),
            "log": str(self.path),
            "stages": [
                {
                    "stage": stage.name,
                    "epochs": stage.epochs,
                    "seconds_left": stage.left() if self.state == "running" else None,
                    "curve": [_counted(entry) for entry in stage.ended],
                    "validation": [_counted(entry) for entry in stage.validated],
                }
                for stage in self.stages.values()
            ],
        }


def _counted(entry: dict[str, Any]) -> dict[str, Any]:
    left_out = ("event", "stage", "epochs")
    return {k: v for k, v in entry.items() if k not in left_out} | {"epoch": entry["epoch"] + 1}


class Watch:
    """What a person sees of a workspace: all that trains, or what ``reference`` names: a run, its
    recipe or a key, by their beginnings.
    """

    def __init__(self, workspace: Workspace, reference: str | None) -> None:
        self.workspace, self.reference = workspace, reference
        self.known: dict[str, Training] = {}
        self.shown: dict[str, Training] = {}
        self.making: list[Artifact] = []
        self.idle = False

    @property
    def running(self) -> bool:
        """Whether more is to come."""
        of_it = any(training.state == "running" for training in self.shown.values())
        return of_it or (bool(self.making) and not self._whole())

    def _whole(self) -> bool:
        """Whether what was named is a run whose model is made."""
        shown = self.shown.values()
        return self.reference is not None and any(
            training.artifact.step == "model" and training.state == "finished" for training in shown
        )

    def look(self) -> None:
        """Read what was written since. Raises ReidpipeError where nothing is, and never was, as
        named.
        """
        artifacts = self.workspace.artifacts()
        for artifact in artifacts:
            if artifact.key not in self.known and (artifact.folder / LOG).is_file():
                self.known[artifact.key] = Training(artifact)
        self._read(self.known[a.key] for a in artifacts if a.key in self.known)
        self.making = [
            artifact
            for artifact in artifacts
            if artifact.key not in self.known
            and not artifact.complete
            and self.workspace.being_made(artifact)
        ]
        for training in self._chosen():
            self.shown[training.artifact.key] = training

    def _read(self, trainings: Iterator[Training]) -> None:
        for training in trainings:
            # What is finished and has been read says nothing new.
            if training.state != "finished" or not training.offset:
                training.read(self.workspace)

    def _chosen(self) -> list[Training]:
        running = [training for training in self.known.values() if training.state == "running"]
        if self.reference is None:
            if running or self.shown or self.making:
                return running
            self.idle = True
            return self._newest(list(self.known.values()))
        named = [t for t in self.known.values() if _is(t, self.reference)]
        going = [training for training in named if training.state == "running"]
        # What the command that will make it is busy with before.
        going = going or [t for t in running if any(n.startswith(self.reference) for n in t.runs)]
        if going or self.shown:
            return going
        runs = matching_runs(list_runs(self.workspace), self.reference)
        if len(runs) > 1:
            raise ReidpipeError(
                f"found {len(runs)} runs for '{self.reference}' "
                f"({', '.join(run.name for run in runs[:4])}); expected one; type more of its name"
            )
        if runs:
            keys = [step.key for step in closure([runs[0].model])]
            for key in keys:
                if key in self.known:
                    self.known[key].runs = self.known[key].runs or (runs[0].name,)
            return [self.known[key] for key in keys if key in self.known]
        if not named and not self.making:
            names = {name for training in self.known.values() for name in training.names}
            raise ReidpipeError(
                f"found no training '{self.reference}'{nearest(self.reference, names)}; expected a "
                "run, a recipe that trains or a key; type reidpipe watch"
            )
        return self._newest(named)

    def _newest(self, trainings: Sequence[Training]) -> list[Training]:
        if not trainings and not self.making:
            raise ReidpipeError(
                f"found nothing that trains or was trained in {self.workspace.root}; expected a "
                "training; type reidpipe train"
            )
        ordered = sorted(trainings, key=lambda training: training.path.stat().st_mtime)
        return ordered[-1:]

    def picture(self, width: int, height: int) -> list[str]:
        """All of it as lines of at most ``width`` characters, about ``height`` of them."""
        shown = list(self.shown.values())
        curves = sum(
            bool(stage.ended or stage.under_way) + bool(stage.validated)
            for training in shown
            for stage in training.stages.values()
        )
        rows = min(max((height - 4 * len(shown)) // max(curves, 1) - 4, 3), 10)
        lines = ["nothing trains now; what did last:"] if self.idle else []
        lines += [line for training in shown for line in training.picture(width, rows)]
        lines += [f"making {made.step} {made.key[:8]}: {self._told(made)}" for made in self.making]
        return [line[:width] for line in lines]

    def _told(self, artifact: Artifact) -> str:
        """How far a step without a curve has come, as far as it says so."""
        found = read_running(path_of(artifact.folder))
        if found is None or not progress(found):
            return "no curve"
        left = "" if found.left is None else f", {clock(found.left)} left"
        return f"{progress(found)}{left}"


def _indented(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width - 2, 20),
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def _is(training: Training, reference: str) -> bool:
    by_key = len(reference) >= 4 and training.artifact.key.startswith(reference)
    return by_key or any(name.startswith(reference) for name in training.names)
