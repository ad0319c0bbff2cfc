"""Other programs that draw a run's curves, by their own packages, where they are asked for.

A tracker is told the lines of ``log.jsonl`` that are about epochs, and is given them all anew when
a run goes on: it shows each epoch once. Nothing here changes a weight. Imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import read_json, write_json
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.lines import PLACES

CSV = "csv"  # what every run writes
EVENTS = "events.out.tfevents.*"


def read_trackers(texts: Iterable[str]) -> tuple[str, ...]:
    """``("csv,tensorboard", "wandb")`` as the trackers named, each once; ``csv`` is always written
    and is none. Raises ReidpipeError for a name that is none, and for one whose package is absent.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name != CSV and name not in TRACKERS:
            known = (CSV, *TRACKERS)
            raise ReidpipeError(
                f"found --log {','.join(names)} with '{name}'{nearest(name, known)}; expected "
                f"{', '.join(known)}, joined by commas; type --log {','.join(known[:2])}"
            )
        # The packages are called as the trackers are.
        if name != CSV and importlib.util.find_spec(name) is None:
            raise ReidpipeError(
                f"found --log {name} without the package {name}; expected it installed; "
                f"type pip install 'reidpipe[{name}]', or leave it out: log.csv is always written"
            )
    return tuple(dict.fromkeys(name for name in names if name != CSV))


def open_trackers(names: Iterable[str], folder: Path, say: Callable[[str], None]) -> list[Any]:
    """The trackers of a run that writes into ``folder``; ``say`` is told where to look."""
    opened = []
    for name in names:
        tracker = TRACKERS[name](folder)
        say(f"{name} {tracker.place}")
        opened.append(tracker)
    return opened


def scalars(entry: Mapping[str, Any]) -> dict[str, float]:
    """Figures of a line of the log by the name a tracker has them under: ``image/loss``,
    ``image/validation/mAP``; empty for a line that is about no epoch.
    """
    if entry["event"] not in ("epoch", "hook", "validation"):
        return {}
    stage = f"{entry['stage']}/" + ("validation/" if entry["event"] == "validation" else "")
    placed = {name for name in PLACES if name not in ("lr", "images_per_s", "seconds")}
    return {
        stage + name: value
        for name, value in entry.items()
        if name not in placed and isinstance(value, int | float)
    }


class TensorBoard:
    """``tensorboard/`` in the run's folder; a figure's step is its epoch in the stage, from 1."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place = folder / "tensorboard"
        # What an earlier session wrote comes again from the log.
        for left in self.place.glob(EVENTS):
            left.unlink()
        self.writer = SummaryWriter(str(self.place))

    def start(self) -> None:
        self.writer.flush()

    def take(self, entry: Mapping[str, Any]) -> None:
        for name, value in scalars(entry).items():
            self.writer.add_scalar(name, value, entry["epoch"] + 1)
        if entry["event"] != "start":
            self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """``wandb/`` in the run's folder, a run of project ``reidpipe``; what else its package reads
    from the environment holds (``WANDB_MODE=offline``, ``WANDB_PROJECT``, ...). Steps are epochs of
    all stages; a run that goes on is the same run there.
    """

    def __init__(self, folder: Path) -> None:
        import wandb  # pyright: ignore[reportMissingImports]
        from wandb.errors import Error  # pyright: ignore[reportMissingImports]

        self.place = folder / "wandb"
        self.place.mkdir(parents=True, exist_ok=True)
        kept = self.place / "run.json"
        if not kept.is_file():
            write_json(kept, {"id": secrets.token_hex(4)})
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "reidpipe"),
                name=f"{folder.parent.name}-{folder.name[:8]}",
                id=str(read_json(kept)["id"]),
                resume="allow",
                dir=str(folder),
                # Figures alone: neither what a terminal shows nor anybody's code.
                settings=wandb.Settings(
                    quiet=True, console="off", disable_git=True, disable_code=True
                ),
            )
        except (Error, ValueError) as error:
            found = str(error).partition("\n")[0]
            raise ReidpipeError(
                f"found no way to begin a run of wandb ({found}); expected a login and a network, "
                "or neither when offline; type wandb login, or export WANDB_MODE=offline"
            ) from error
        self.epochs: dict[tuple[str, int], int] = {}

    def start(self) -> None: ...

    def take(self, entry: Mapping[str, Any]) -> None:
        figures = scalars(entry)
        if figures:
            place = (entry["stage"], entry["epoch"])
            step = self.epochs.setdefault(place, len(self.epochs) + 1)
            self.run.log(figures, step=step)

    def close(self) -> None:
        self.run.finish()
        # Its own journal, part of which lies elsewhere: no part of an artifact.
        for path in sorted(self.place.rglob("*")):
            if path.is_symlink():
                path.unlink()
        for logs in self.place.glob("*/logs"):
            shutil.rmtree(logs)


TRACKERS: dict[str, Callable[[Path], Any]] = {"tensorboard": TensorBoard, "wandb": Wandb}
