"""What a training run tells a person on stderr: a line per epoch, a line per step with ``-v``, and
on a terminal one bar with the same facts. Imports no torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from pipeline.terminal.printable import printable
from pipeline.terminal.tables import clock
from pipeline.terminal.watching import Watching

# Figures of an epoch's line in the log that are no means of losses and reports.
PLACES = ("event", "stage", "epoch", "epochs", "step", "lr", "images_per_s", "seconds")


def loss_parts(entry: Mapping[str, Any]) -> dict[str, float]:
    """The losses by name of a line of the log: what stands between their sum and the gradient."""
    names = [name for name in entry if name not in PLACES]
    if "loss" not in names or "gradient" not in names:
        return {}
    return {n: entry[n] for n in names[names.index("loss") + 1 : names.index("gradient")]}


def facts(entry: Mapping[str, Any], *, parts: bool = True) -> str:
    """``loss 1.234 (id 0.900, triplet 0.334), lr 3.5e-04`` of a line of the log."""
    shown = _told(loss_parts(entry)) if parts else []
    text = f"loss {entry['loss']:.3f}" + (f" ({', '.join(shown)})" if shown else "")
    return f"{text}, lr {entry['lr']:.1e}" if "lr" in entry else text


def _told(parts: Mapping[str, float]) -> list[str]:
    """Nothing of a sum of one part, which is that part."""
    return [f"{name} {value:.3f}" for name, value in parts.items()] if len(parts) > 1 else []


def validation_line(entry: Mapping[str, Any], epochs: int) -> str:
    """``image: epoch 4/20, validation mAP 56.1 %, Rank-1 78.0 % on D (protocol P), 3.2 s``."""
    return (
        f"{entry['stage']}: epoch {entry['epoch'] + 1}/{epochs}, validation "
        f"mAP {100 * entry['mAP']:.1f} %, Rank-1 {100 * entry['Rank-1']:.1f} % "
        f"on {entry['dataset']} (protocol {entry['protocol']}), {entry['seconds']:.1f} s"
    )


class Lines:
    """stderr of one run. ``bar``: draw one, if stderr is a terminal; it stays below the lines."""

    def __init__(self, watching: Watching, *, bar: bool) -> None:
        self.verbosity = watching.verbosity
        self.draws = bar and self.verbosity >= 0 and sys.stderr.isatty()
        self.bar: Any = None

    def say(self, line: str) -> None:
        """A line, at once. A terminal that has gone away ends the lines and not the training."""
        if self.verbosity < 0:
            return
        line = printable(line)
        try:
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)
            else:
                sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except OSError:
            self.verbosity = -1

    def begin_stage(self, stage: str, epochs: int, steps: int, done: int) -> None:
        """``done``: steps of the stage that were taken before, in a session that was stopped."""
        self.stage, self.epochs, self.steps, self.first = stage, epochs, steps, done
        self.started, self.images = time.monotonic(), 0
        if done >= epochs * steps:
            return
        if done:
            epoch, step = divmod(done, steps)
            self.say(f"{stage}: goes on with epoch {epoch + 1}/{epochs}, step {step + 1}/{steps}")
        if self.draws:
            from tqdm import tqdm

            self.bar = tqdm(
                total=epochs * steps,
                initial=done,
                desc=stage,
                bar_format="{desc} |{bar:10}| {remaining} left{postfix}",
                dynamic_ncols=True,
            )

    def step(self, entry: Mapping[str, Any], images: int) -> None:
        """``images``: of the step, all processes'."""
        self.images += images
        if self.bar is None and self.verbosity < 1:
            return
        place = f"{self.stage}: epoch {entry['epoch'] + 1}/{self.epochs}"
        if self.verbosity >= 1:
            self.say(f"{place}, step {entry['step'] + 1}/{self.steps}, {facts(entry)}")
        if self.bar is not None:
            rate = self.images / max(time.monotonic() - self.started, 1e-9)
            parts = _told(loss_parts(entry))
            told = f"{facts(entry, parts=False)}, {rate:.0f} images/s"
            self.bar.set_description_str(place, refresh=False)
            # The parts last: what a narrow terminal has no room for is cut.
            self.bar.set_postfix_str(", ".join([told, *parts]), refresh=False)
            self.bar.update()

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """The time left is that of the stage, at the pace of this session."""
        done = entry["epoch"] + 1
        taken = (time.monotonic() - self.started) / max(done * self.steps - self.first, 1)
        left = taken * (self.epochs - done) * self.steps
        skipped = f"{entry['skipped']:.0%} of the steps skipped, " if entry.get("skipped") else ""
        self.say(
            f"{self.stage}: epoch {done}/{self.epochs}, {facts(entry)}, {skipped}"
            f"{entry['images_per_s']:.0f} images/s, {clock(left)} left"
        )

    def validation(self, entry: Mapping[str, Any]) -> None:
        self.say(validation_line(entry, self.epochs))

    def end_stage(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
