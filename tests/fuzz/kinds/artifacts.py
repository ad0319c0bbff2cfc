"""A workspace whose files somebody changed: JSON, logs, tables, arrays, weights, label maps."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from tests.fuzz.case import Case, Place, Words
from tests.fuzz.damage import damaged, flipped
from tests.fuzz.pristine import CPU, DATASET, EVAL, PARTS, RUN, TRAIN, TRAIN_PARTS
from tests.fuzz.values import as_json, mutated

LOOK: tuple[Words, ...] = (
    ("status",), ("cache", "ls"), ("cache", "verify"), ("watch", "--once"), ("status", "--json"),
)  # fmt: skip
MARK = "artifact.json"


def _figure(place: Place, kind: str, run: str) -> Words:
    return ("figure", kind, run, "--out", place.workspace / "out.svg", *CPU)


def _readers(place: Place, step: str, name: str) -> tuple[tuple[str, ...], list[Words]]:
    """Steps to be made anew, and commands that read a file of ``step``."""
    people = place.pristine / "people" / "images"
    photo = sorted((people / "query").iterdir())[0]
    model: list[Words] = [
        EVAL, ("score", RUN, photo, photo, *CPU), ("search", RUN, photo, people / "query", *CPU),
        ("export", RUN, "--format", "safetensors", "--out", place.workspace / "x.safetensors"),
        _figure(place, "curves", RUN), (*TRAIN[:2], "--continue", RUN, *TRAIN[2:]),
        ("eval", f"{RUN}@1", *CPU), ("eval", f"{RUN}@best", *CPU), ("report", RUN, *CPU),
    ]  # fmt: skip
    if step == "evaluation":
        return (), [
            EVAL, ("report", RUN, *CPU), ("eval", RUN, PARTS, *CPU), ("search", RUN, photo, photo),
            *(_figure(place, kind, RUN) for kind in ("cmc", "roc", "det", "histogram", "ranked")),
            ("score", RUN, photo, photo, *CPU), ("export", RUN, "--format", "safetensors"),
        ]  # fmt: skip
    if step == "model":
        return (("evaluation", "activations") if name != MARK else ()), model
    if step in ("index", "images"):
        return ("evaluation",), [
            EVAL, ("report", RUN, *CPU), ("prepare", DATASET, "--size", "32x16"),
            ("embed", RUN, DATASET, "--out", place.workspace / "g", *CPU), _figure(place, "ranked", RUN),
        ]  # fmt: skip
    if step == "maps":
        return ("report",), [
            ("report", PARTS, *CPU), _figure(place, "maps", PARTS), ("parse", DATASET, *CPU),
            _figure(place, "parts", PARTS), ("parse", DATASET, "--preview", *CPU),
        ]  # fmt: skip
    if step in ("features", "prompts", "text"):
        own = ("prompts", "text", "model")
        return own[("features", "prompts", "text").index(step) :], [TRAIN_PARTS]
    if step == "activations":
        return (), [_figure(place, "activations", RUN)]
    if step == "report":
        return (), [("report", PARTS, *CPU), _figure(place, "parts", PARTS)]
    return (), [EVAL, ("report", PARTS, *CPU)]


def copied(place: Place) -> Path:
    place.workspace.rmdir()
    shutil.copytree(place.pristine / "workspace", place.workspace)
    return place.workspace


def _remade(place: Place, steps: tuple[str, ...]) -> None:
    for step in steps:
        shutil.rmtree(place.workspace / "artifacts" / step, ignore_errors=True)


def _marked(path: Path, folder: Path) -> None:
    """Let the mark tell of the file as it is now."""
    from pipeline.artifacts.mark import described

    mark = folder / MARK
    content = json.loads(mark.read_text())
    content["files"][path.relative_to(folder).as_posix()] = described(path)
    mark.write_text(json.dumps(content))
    beside = path.with_name("model.json")
    if path.name == "model.safetensors" and beside.is_file():
        content = json.loads(beside.read_text())
        beside.write_text(json.dumps(content | {"weights_sha256": described(path)["sha256"]}))  # type: ignore[index]
        _marked(beside, folder)


def _chosen(rng: random.Random, root: Path, suffixes: tuple[str, ...]) -> Path:
    found = [p for p in (root / "artifacts").glob("*/*/**/*") if p.suffix in suffixes]
    # Of each step and name one, so that rare files come up as often as others.
    kinds = sorted({(p.relative_to(root).parts[1], p.name) for p in found})
    step, name = rng.choice(kinds)
    return rng.choice(sorted(p for p in found if p.relative_to(root).parts[1] == step and p.name == name))  # fmt: skip


def case_of(
    rng: random.Random,
    place: Place,
    path: Path,
    about: str,
    consistent: bool,
    commands: int = 2,
) -> Case:
    """Commands that read ``path``, now damaged. Where its mark knows better (``consistent`` is
    False) what is accepted must be what it was before.
    """
    folder = place.workspace.joinpath(*path.relative_to(place.workspace).parts[:3])
    step = folder.parent.name
    again, readers = _readers(place, step, path.name)
    if consistent and path.name != MARK:
        _marked(path, folder)
    _remade(place, again)
    lines = [rng.choice(LOOK), *rng.sample(readers, min(commands, len(readers)))]
    truth = (place.pristine / "eval.json").read_text()

    def same(printed: list[str | None]) -> str | None:
        for words, out in zip(lines, printed, strict=True):
            if words == EVAL and out is not None and _figures(out) != _figures(truth):
                return f"eval tells other figures:\n{out}"
        return None

    where = path.relative_to(place.workspace)
    return Case(f"{where}{' (marked)' if consistent else ''}: {about}", lines,
                after=None if consistent or path.name == MARK else same)  # fmt: skip


def _figures(printed: str) -> dict[str, object]:
    """What ``eval --json`` prints, but for where that lies."""
    return {name: value for name, value in json.loads(printed).items() if name != "folder"}


def values(rng: random.Random, place: Place) -> Case:
    """A JSON file of an artifact with values of other types and shapes."""
    root = copied(place)
    path = _chosen(rng, root, (".json",))
    changed, about = mutated(rng, json.loads(path.read_text()))
    path.write_bytes(as_json(rng, changed))
    return case_of(rng, place, path, about, rng.random() < 0.7)


def files(rng: random.Random, place: Place) -> Case:
    """Any other file of an artifact, damaged."""
    root = copied(place)
    path = _chosen(rng, root, (".npy", ".npz", ".safetensors", ".csv", ".jsonl", ".h5"))
    data, about = damaged(rng, path.read_bytes())
    path.write_bytes(data)
    return case_of(rng, place, path, about, rng.random() < 0.6)


def bits(rng: random.Random, place: Place) -> Case:
    """One bit of weights, pixels, features or maps: found, or without any effect."""
    root = copied(place)
    path = _chosen(rng, root, (".npy", ".npz", ".safetensors", ".h5", ".csv"))
    data, at = flipped(rng, path.read_bytes())
    path.write_bytes(data)
    return case_of(rng, place, path, f"a bit of byte {at}", False)


def runs(rng: random.Random, place: Place) -> Case:
    """``run.json``, registered roots, and what else lies beside the artifacts."""
    root = copied(place)
    path = rng.choice(sorted([*root.glob("runs/*/run.json"), *root.glob("datasets/*.json")]))
    changed, about = mutated(rng, json.loads(path.read_text()))
    path.write_bytes(as_json(rng, changed))
    readers: list[Words] = [
        EVAL, ("report", RUN, PARTS, *CPU), ("prepare", DATASET, "--size", "32x16"), TRAIN,
        ("eval", "--dataset", DATASET, *CPU), ("watch", RUN, "--once"), _figure(place, "cmc", RUN),
        ("export", RUN, "--format", "safetensors"), ("cache", "rm", "unfinished"),
    ]  # fmt: skip
    return Case(
        f"{path.relative_to(root)}: {about}", [*rng.sample(LOOK, 2), *rng.sample(readers, 2)]
    )


def log(rng: random.Random, place: Place) -> Case:
    """Lines of ``log.jsonl`` and ``log.csv`` of trainings that ended or were stopped."""
    root = copied(place)
    path = rng.choice(sorted([*root.glob("artifacts/*/*/log.jsonl")]))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    about = []
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        lines[at], what = mutated(rng, lines[at])
        about.append(f"line {at}: {what}")
    texts = [json.dumps(line, default=str) for line in lines]
    way = rng.randrange(6)
    if way == 0:
        texts[rng.randrange(len(texts))] = rng.choice(("", "{", "x", "[]", "null", '{"event": 5}'))
    data = ("\n".join(texts) + rng.choice(("\n", ""))).encode("utf-8", "surrogatepass")
    if way == 1:
        data, what = damaged(rng, data)
        about.append(what)
    path.write_bytes(data)
    stopped = rng.random() < 0.4
    if stopped:
        (path.parent / MARK).unlink()
    elif rng.random() < 0.7:
        _marked(path, path.parent)
    run = RUN if len(lines) and "5df" in path.parent.name else PARTS
    readers: list[Words] = [
        ("watch", "--once"), ("watch", run, "--once"), ("watch", run, "--once", "--json"),
        _figure(place, "curves", RUN), _figure(place, "curves", PARTS), ("report", RUN, *CPU),
        ("report", PARTS, *CPU), ("eval", f"{RUN}@1", *CPU), ("status",),
    ]  # fmt: skip
    told = f"{path.relative_to(root)}{' (stopped)' if stopped else ''}"
    return Case(f"{told}: {'; '.join(about)}", rng.sample(readers, 3))


KINDS = {
    "workspace": values, "files": files, "bits": bits, "runs": runs, "log": log,
}  # fmt: skip
