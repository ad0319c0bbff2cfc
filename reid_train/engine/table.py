"""``log.csv``: the epochs of ``log.jsonl`` as a table, one row each. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import write_text
from reid_train.engine.lines import PLACES

TABLE = "log.csv"
COLUMNS = ("stage", "epoch", "epochs", "loss", "lr", "images_per_s", "seconds")
VALIDATION = ("dataset", "protocol", "mAP", "Rank-1", "seconds")


class Table:
    """The file: ``COLUMNS``, a column for each loss, report and figure of a hook, and ``val_`` of
    each of ``VALIDATION``. ``epoch`` counts from 1. A row is written when its epoch ends and again
    when that has been validated. Cells that do not apply are empty.

    A row whose columns are known is added to the file; else the file is replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TABLE
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        self.parts: list[str] = []
        self.header: list[str] = []
        self.live = False

    def start(self) -> None:
        """From here on what is taken is written: before, it stands in the log of a session that was
        stopped, and is written at once.
        """
        self.live = True
        if self.rows:
            self._replace()
        else:
            self.path.unlink(missing_ok=True)

    def take(self, entry: Mapping[str, Any]) -> None:
        """A line of the log; those that are about no epoch are passed over."""
        event = entry["event"]
        if event not in ("epoch", "hook", "validation"):
            return
        place = (entry["stage"], entry["epoch"] + 1)
        row = self.rows.setdefault(place, {"stage": place[0], "epoch": place[1]})
        if event == "validation":
            row |= {f"val_{name}": entry[name] for name in VALIDATION}
        else:
            named = [n for n in entry if n not in (*PLACES, "loss") and n not in self.parts]
            self.parts += named
            row |= {n: v for n, v in entry.items() if n not in ("event", "stage", "epoch")}
        if not self.live or event == "hook":
            return
        if event == "epoch" and self._names() == self.header and self.path.is_file():
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([row]))
        else:
            self._replace()

    def close(self) -> None: ...

    def _replace(self) -> None:
        # A hook's figures alone are a row whose epoch has not ended.
        ended = [row for row in self.rows.values() if "loss" in row]
        self.header = self._names()
        header = dict(zip(self.header, self.header, strict=True))
        write_text(self.path, self._text([header, *ended]))

    def _names(self) -> list[str]:
        return [*COLUMNS, *self.parts, *(f"val_{name}" for name in VALIDATION)]

    def _text(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._names(), lineterminator="\n").writerows(rows)
        return text.getvalue()
