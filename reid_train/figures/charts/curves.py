"""Training curves: mean loss per epoch of every stage, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_train.engine.log import read_log
from reid_train.figures.charts.style import Width, look, name_runs, panels, styled

Entry = Mapping[str, Any]
_MARKED = 30  # epochs up to which each has a mark


def read_epochs(log: Path) -> list[dict[str, Any]]:
    """The lines of ``log.jsonl`` that close an epoch, in order."""
    return [entry for entry in read_log(log) if entry.get("event") == "epoch"]


def curves(runs: Mapping[str, Sequence[Entry]], *, width: Width = "two") -> Any:
    """A matplotlib figure: a panel per stage with its mean loss, as losses have scales of their
    own; and a panel per stage that was evaluated on the way, with the mAP. One line per run.

    runs: name -> entries of ``read_log``; those of ``event`` "epoch" (``stage``, ``epoch`` from 0,
    ``loss``) and "validation" (``stage``, ``epoch``, ``mAP`` as a fraction) count. Stages without
    one are left out.
    """
    shown = [
        (stage, event)
        for event in ("epoch", "validation")
        for stage in dict.fromkeys(
            entry["stage"]
            for log in sorted(runs.values(), key=_stages, reverse=True)
            for entry in log
            if entry.get("event") == event
        )
    ]  # fmt: skip
    with styled():
        figure, axes = panels(len(shown), width=width, height=1.9)
        handles: dict[str, Any] = {}
        for axis, (stage, event) in zip(axes, shown, strict=False):
            for number, (name, log) in enumerate(runs.items()):
                points = [e for e in log if e.get("event") == event and e.get("stage") == stage]
                if points:
                    how = look(number)
                    (line,) = axis.plot(
                        [entry["epoch"] + 1 for entry in points],
                        [_value(entry) for entry in points],
                        color=how.colour, linestyle=how.dashes,
                        marker=how.mark if len(points) < _MARKED else None,
                    )  # fmt: skip
                    handles.setdefault(name, line)
            axis.set_title(stage)
            axis.set_xlabel("epoch")
            axis.set_ylabel("mean loss" if event == "epoch" else "validation mAP (%)")
            axis.xaxis.get_major_locator().set_params(integer=True)
            if axis.get_xlim()[1] - axis.get_xlim()[0] < 1:  # a single epoch
                axis.set_xlim(0, sum(axis.get_xlim()))
            axis.grid(True)
        name_runs(figure, list(handles.values()), list(handles), width)
    return figure


def _stages(log: Sequence[Entry]) -> int:
    """How many there are: the order of panels is that of the run with the most."""
    return len({entry["stage"] for entry in log if entry.get("event") == "epoch"})


def _value(entry: Entry) -> float:
    return entry["loss"] if entry["event"] == "epoch" else 100 * entry["mAP"]
