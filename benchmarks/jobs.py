"""Steps side by side: the time of ``reidpipe run`` with --jobs 1 and --jobs N, in turn, and whether
the results are equal to the byte.

    python -m benchmarks.jobs                       the four tiny recipes, seeds 0-2
    python -m benchmarks.jobs --recipe baseline-tiny --seed 0-1 --set stages.0.epochs=1

Say nothing of the figures of a machine that is at work on other things.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

RECIPES = ("baseline-tiny", "clip-reid-tiny", "pi-vl-tiny", "pcl-clip-tiny")
# What a clock or a process has a say in, beside ``started`` and ``seconds`` of the marks.
TIMED = ("log.jsonl", "log.csv", "step.log", "report.html")


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file of every artifact that no clock has a say in."""
    found = {}
    for mark in sorted((root / "artifacts").glob("*/*/artifact.json")):
        for name, entry in json.loads(mark.read_text())["files"].items():
            if Path(name).name == "model.json":
                found[f"{mark.parent.name}/{name}"] = timeless(mark.parent / name)
            elif Path(name).name not in TIMED:
                found[f"{mark.parent.parent.name}/{mark.parent.name}/{name}"] = entry["sha256"]
    return found


def timeless(path: Path) -> str:
    """The content of ``model.json`` without how long training took."""
    value = json.loads(path.read_text())
    for name in ("seconds", "images_per_s"):
        value.get("training", {}).pop(name, None)
    return json.dumps(value, sort_keys=True)


def timed(root: Path, jobs: int, words: list[str]) -> float:
    """Seconds of one ``run`` in an empty workspace."""
    line = [sys.executable, "-m", "reid_train", "--workspace", str(root), "run", *words]
    began = time.monotonic()
    subprocess.run(
        [*line, "--jobs", str(jobs)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


@click.command()
@click.option("--recipe", "recipes", multiple=True, help="[default: the four tiny ones]")
@click.option("--seed", default="0-2", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE")
@click.option("--jobs", default=2, show_default=True)
@click.option("--rounds", default=1, show_default=True, help="How often, in turn.")
def main(
    recipes: tuple[str, ...], seed: str, settings: tuple[str, ...], jobs: int, rounds: int
) -> None:
    """Print the times, their ratio, and whether bytes are equal."""
    words = [*(recipes or RECIPES), "--seed", seed, "--device", "cpu"]
    words += [part for setting in settings for part in ("--set", setting)]
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            places = {count: Path(folder, str(count)) for count in (1, jobs)}
            seconds = {count: timed(place, count, words) for count, place in places.items()}
            one, several = (digests(place) for place in places.values())
            different = sorted(
                name for name in one.keys() | several.keys() if one.get(name) != several.get(name)
            )
            click.echo(
                f"round {number + 1}: --jobs 1 {seconds[1]:.1f} s, --jobs {jobs} "
                f"{seconds[jobs]:.1f} s, {seconds[1] / seconds[jobs]:.2f} times faster; "
                f"{len(one)} files, {len(different) or 'none'} different"
            )
            for name in different[:20]:
                click.echo(f"  {name}")


if __name__ == "__main__":
    main()
