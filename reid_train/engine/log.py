"""What a training run writes while it runs: ``log.jsonl``, ``log.csv``, lines on stderr, trackers.

``log.jsonl`` is the record: one JSON object per line, flushed line by line, and all else is told
from its lines. A resumed run cuts it to the position its state names; the table and the trackers
are then written anew from what is left, so that no epoch stands in them twice. Imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from pipeline.artifacts.atomic import parse_json
from pipeline.artifacts.checked import checked
from pipeline.artifacts.running import SILENT, Running
from pipeline.terminal.errors import DamagedFile
from pipeline.terminal.watching import QUIET, Watching
from reid_train.engine.lines import Lines
from reid_train.engine.table import Table
from reid_train.engine.trackers import open_trackers

LOG = "log.jsonl"
# What is read of a line, and its type, by event; of an event that is not here nothing is.
_NUMBER, _PLACE = (int, float), {"stage": str, "epoch": int}
_FIELDS: dict[str, dict[str, Any]] = {
    "start": {"stages": list},
    "step": {**_PLACE, "step": int, "loss": _NUMBER},
    "hook": _PLACE,
    "epoch": {**_PLACE, "loss": _NUMBER, "images_per_s": _NUMBER, "seconds": _NUMBER},
    "validation": {
        **_PLACE,
        **{"dataset": str, "protocol": str, "mAP": _NUMBER, "Rank-1": _NUMBER, "seconds": _NUMBER},
    },
}
_TEXTS = ("event", "stage", "dataset", "protocol")
_STAGE = {"name": str, "epochs": int, "steps": int}


class Reader(Protocol):
    """Something that is told the log's lines, step lines apart."""

    def start(self) -> None:
        """What was taken before is of a session that was stopped; what follows is new."""
        ...

    def take(self, entry: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of ``log.jsonl``, in order. A last line that is being written, or that a killed
    process left unfinished, is no line yet and is passed over. Raises DamagedFile for any other
    that is no line of a log.
    """
    with checked(path).open("rb") as file:
        return [
            parse_line(line, number, path)
            for number, line in enumerate(file, start=1)
            if line.endswith(b"\n")
        ]


def parse_line(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """One line of a log, the ``number``-th of ``path``. Raises DamagedFile."""
    try:
        entry = parse_json(line)
    except ValueError:
        entry = None
    if not _whole(entry):
        raise DamagedFile(
            f"found line {number} of {path} damaged; expected one JSON object per line; to train "
            f"again type reidpipe cache rm {path.parent.name} and the same command"
        )
    return entry


def _whole(entry: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is a line of a log: what is read of it is there."""
    if not _has(entry, {"event": str}) or not _has(entry, _FIELDS.get(entry["event"], {})):
        return False
    if entry["event"] == "start":
        runs = entry.get("runs", [])
        named = isinstance(runs, list) and all(isinstance(run, str) for run in runs)
        return named and all(
            _has(stage, _STAGE) and stage.keys() == _STAGE.keys() for stage in entry["stages"]
        )
    parts = [value for name, value in entry.items() if name not in _TEXTS]
    return all(isinstance(value, _NUMBER) for value in parts)


def _has(entry: Any, fields: Mapping[str, Any]) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), kind) for name, kind in fields.items()
    )


class Log:
    """Of one run, whose ``stages`` are (name, epochs, steps per epoch). Epochs and steps count from
    0 here and in ``log.jsonl``, from 1 wherever a person reads them.

    running: is told each step. kept: bytes of ``log.jsonl`` to keep; what follows was written after
    the saved position. main: whether this process writes: otherwise all methods do nothing.

    Lines of ``log.jsonl`` by their ``event``: ``start`` (runs, stages), ``step``, ``hook``,
    ``epoch`` (means of the losses and reports, the last learning rate, images/s), ``validation``.
    """

    def __init__(
        self,
        folder: Path,
        stages: Sequence[tuple[str, int, int]],
        *,
        kept: int = 0,
        watching: Watching = QUIET,
        bar: bool = False,
        running: Running = SILENT,
        main: bool = True,
    ) -> None:
        self.path = folder / LOG if main else Path(os.devnull)
        self.main, self.stages, self.running = main, list(stages), running
        self.total = sum(epochs * steps for _, epochs, steps in stages)
        self.lines = Lines(watching if main else QUIET, bar=bar)
        self.readers: list[Reader] = []
        self.lr: float | None = None
        # Buffered by line: tail -f shows each as it is written.
        self.file = self.path.open("a", buffering=1, encoding="utf-8")
        if main:
            self._open(folder, kept, watching)

    def _open(self, folder: Path, kept: int, watching: Watching) -> None:
        self.file.truncate(min(kept, self.path.stat().st_size))
        self.lines.say(f"log {self.path}")
        self.readers = [Table(folder), *open_trackers(watching.trackers, folder, self.lines.say)]
        before = [entry for entry in read_log(self.path) if entry["event"] != "step"]
        for reader in self.readers:
            for entry in before:
                reader.take(entry)
            reader.start()
        if not self.path.stat().st_size:
            names = ("name", "epochs", "steps")
            stages = [dict(zip(names, stage, strict=True)) for stage in self.stages]
            self._write({"event": "start", "runs": list(watching.runs), "stages": stages})

    def begin_stage(self, index: int, epoch: int, step: int) -> None:
        """``epoch`` and ``step`` are the next to do."""
        self.stage, self.epochs, self.steps = self.stages[index]
        self.before = sum(epochs * steps for _, epochs, steps in self.stages[:index])
        done = epoch * self.steps + step
        self.lines.begin_stage(self.stage, self.epochs, self.steps, done)
        place = f"{self.stage}: epoch {min(epoch + 1, self.epochs)}/{self.epochs}"
        self.running.report(self.before + done, self.total, "steps", place)

    def end_stage(self) -> None:
        self.lines.end_stage()

    def hook(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Figures of a hook that worked before an epoch."""
        self._write({"event": "hook", "stage": self.stage, "epoch": epoch, **figures})

    def step(
        self, epoch: int, step: int, lr: float, figures: Mapping[str, float], images: int
    ) -> None:
        """figures: ``loss``, its parts, ``gradient`` (the norm of all), reports, in this order; in
        fp16 then ``skipped``, 1 of a step whose gradients overflowed and changed nothing, with the
        norm 0, which a batch has too whose gradients wait for the next one's (an epoch's mean is of
        those that stepped). images: of the step, all processes'.
        """
        self.lr = lr
        entry = {"event": "step", "stage": self.stage, "epoch": epoch, "step": step, "lr": lr}
        entry |= figures
        self._write(entry)
        if self.main:
            self.lines.step(entry, images)
            place = f"{self.stage}: epoch {epoch + 1}/{self.epochs}, loss {figures['loss']:.3f}"
            done = self.before + epoch * self.steps + step + 1
            self.running.report(done, self.total, "steps", place)

    def epoch(
        self, epoch: int, figures: Mapping[str, float], images_per_s: float, seconds: float
    ) -> None:
        """An epoch has ended. figures: means of what ``step`` was given."""
        entry = {"event": "epoch", "stage": self.stage, "epoch": epoch, "epochs": self.epochs}
        entry |= {"lr": self.lr} if self.lr is not None else {}
        entry |= {**figures, "images_per_s": round(images_per_s, 2), "seconds": round(seconds, 3)}
        self._write(entry)
        if self.main:
            self.lines.epoch(entry)

    def validation(
        self,
        epoch: int,
        *,
        dataset: str,
        protocol: str,
        figures: Mapping[str, float],
        seconds: float,
    ) -> None:
        """The model after ``epoch`` was evaluated: figures ``mAP`` and ``Rank-1`` (0..1) at least,
        in ``seconds``. Told before the next epoch begins.
        """
        entry = {"event": "validation", "stage": self.stage, "epoch": epoch, "dataset": dataset}
        entry |= {"protocol": protocol, **figures, "seconds": round(seconds, 3)}
        self._write(entry)
        if self.main:
            self.lines.validation(entry)

    def position(self) -> int:
        """Bytes of ``log.jsonl``: what a state remembers, once they are on the disk (``flush``)."""
        return self.path.stat().st_size if self.main else 0

    def flush(self) -> None:
        """Everything that was logged is on the disk. Any thread may call it."""
        if self.main:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Of a run that ended or failed."""
        self.lines.end_stage()
        for reader in self.readers:
            reader.close()
        self.file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        if not self.main:
            return
        self.file.write(json.dumps(entry) + "\n")
        if entry["event"] != "step":
            for reader in self.readers:
                reader.take(entry)
