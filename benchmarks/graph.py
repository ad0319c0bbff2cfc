"""Time and memory of a graph of many steps: ``python -m benchmarks.graph``.

What ``run`` asks for with many recipes, seeds and parsers: maps of three parsers and one set of
features that all share, prompts, texts, a model and an evaluation of each combination, one report
of all. Steps are made by a function that does nothing, so what is measured is the graph: keys, what
is missing, the order, what was made. Lines as ``benchmarks.scale`` has them, a process for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from benchmarks.scale import machine
from pipeline.artifacts import graph, requests
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from reid_train.recipe.loading import load_recipe

COMBINATIONS = (80, 250, 1_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--combinations", type=int, nargs="+", default=COMBINATIONS)
    parser.add_argument("--out", type=Path, default=Path("scale.jsonl"), help="lines are added")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.combinations[0], options.out)
        return
    for count in options.combinations:
        words = ["--combinations", str(count), "--out", str(options.out), "--measure"]
        subprocess.run([sys.executable, "-m", "benchmarks.graph", *words], check=True)


class Idle(Workspace):
    """Where nothing is made."""

    def make(self, step: Step, execution: Execution) -> Path:
        del execution
        return self.folder(step)


def measure(count: int, out: Path) -> None:
    recipe = load_recipe("pi-vl-tiny").model_dump(mode="json")
    tracemalloc.start()
    started = time.process_time()
    targets = asked(count, recipe)
    with tempfile.TemporaryDirectory() as folder:
        made = len(graph.run(Idle(folder), targets).made)
    line = {
        "phase": "graph",
        "images": made,
        "cpu": round(time.process_time() - started, 2),
        "own_mib": round(tracemalloc.get_traced_memory()[1] / 2**20, 1),
        **machine(),
    }
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{made} steps: {line['cpu']} CPU s, {line['own_mib']} MiB at most")


def asked(count: int, recipe: dict) -> list[Step]:
    source = requests.index("scale", {"root": "/images", "fingerprint": "0" * 32})
    images = requests.images(source, size=(256, 128), filter="bicubic")
    features = Step("features", {"recipe": recipe}, {"index": source, "images": images})
    evaluations = []
    for number in range(count):
        params = {"recipe": recipe, "seed": number}
        maps = requests.maps(source, model=f"parser {number % 3}", weights=None)
        prompts = Step("prompts", params, {"features": features})
        text = Step("text", params, {"prompts": prompts})
        inputs = {"index": source, "images": images, "maps": maps, "text": text}
        trained = Step("model", params, inputs)
        evaluations.append(
            requests.evaluation(trained, source, protocol="standard", exclude="same-camera")
        )
    return [*evaluations, requests.report("all", evaluations)]


if __name__ == "__main__":
    main()
