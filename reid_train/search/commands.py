"""``reidpipe embed``, ``search`` and ``score``: a trained run on images that are in no dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline.artifacts import graph
from pipeline.artifacts.atomic import read_json, replacing, sha256_file
from pipeline.artifacts.runs import Run, find_run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.commandline import CONTEXT, DEVICE, Terminal, check_out, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table
from reid_train.models import is_tag
from reid_train.models.clip.tiny import sizes as clip_tiny

FLIP = click.option("--flip", is_flag=True, help="Add the mirrored image's features.")
PATH = click.Path(path_type=Path)


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--out", type=PATH, help="Folder to write.  [default: in the workspace]")
@FLIP
@DEVICE
@json_option
def embed(
    terminal: Terminal, run: str, folder: Path, out: Path | None, flip: bool, device: str
) -> None:
    """Features of all images below DIR: features.npy (N, D), their names in features.json.

    Features are not normalised; damaged images are left out and named.
    Example: reidpipe embed baseline-tiny photos --out features
    """
    from reid_train.evaluation.embeddings import save_features
    from reid_train.evaluation.image_files import images_below

    found = find_run(terminal.workspace, run)
    paths = images_below(folder)
    target = out or terminal.workspace.root / "embeddings" / f"{found.name}-{folder.resolve().name}"
    check_out(target, folder=True)
    features, kept, damaged = _encoder(terminal, found, device, flip)(paths)
    save_features(target, features, [path.relative_to(folder).as_posix() for path in kept])
    _tell_damaged(terminal, damaged)
    terminal.say(f"{len(kept)} images, {features.shape[1]} numbers each, in {target}")
    terminal.result(
        {
            "run": found.name,
            "folder": str(target),
            "images": len(kept),
            "dimension": features.shape[1],
            "damaged": damaged,
        }
    )


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("query", type=PATH)
@click.argument("gallery", type=PATH)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Matches.")
@click.option("--out", type=PATH, help="Picture (PNG) to write.  [default: in the workspace]")
@FLIP
@DEVICE
@json_option
def search(
    terminal: Terminal,
    run: str,
    query: Path,
    gallery: Path,
    top: int,
    out: Path | None,
    flip: bool,
    device: str,
) -> None:
    """Images below the folder GALLERY that resemble the image QUERY most, with a picture.

    Similarity is the cosine of features; that of an evaluated run is held against the threshold
    which 1 % of pairs of different people pass. Images of withdrawn datasets, known by their file
    names, are not drawn.
    Example: reidpipe search baseline-tiny person.jpg photos --top 5
    """
    from reid_train.evaluation import Embeddings, rank
    from reid_train.evaluation.image_files import images_below

    found = find_run(terminal.workspace, run)
    if not query.is_file():
        raise ReidpipeError(
            f"found no file {query}; expected the image of one person; "
            f"type reidpipe search {found.name} IMAGE DIR"
        )
    picture = out or terminal.workspace.root / "reports" / f"search-{found.name}-{query.stem}.png"
    paths = images_below(gallery)
    check_out(picture, folder=False)
    encode = _encoder(terminal, found, device, flip)
    wanted, _, _ = encode([query])
    features, kept, damaged = encode(paths)
    ranking = rank(
        Embeddings(wanted, [0]), Embeddings(features, [0] * len(kept)), top, exclude="none"
    )
    threshold = _threshold(terminal.workspace, found.model, flip)
    rows: list[dict[str, Any]] = []
    for place, distance in zip(ranking.indices[0], ranking.distances[0], strict=True):
        similarity = 1 - float(distance) / 2  # of unit vectors: d = 2 - 2 cos
        passes = None if threshold is None else similarity >= threshold
        rows.append({"image": str(kept[place]), "similarity": similarity, "passes": passes})
    _draw(picture, query, rows)

    _tell_damaged(terminal, damaged)
    words = {True: "same person", False: "below", None: "unknown"}
    shown = [
        {**row, "similarity": f"{row['similarity']:.3f}", "threshold": words[row["passes"]]}
        for row in rows
    ]
    terminal.say(format_table(shown, ["similarity", "threshold", "image"]))
    if threshold is None:
        terminal.say(f"no threshold yet; reidpipe eval {found.name} calibrates one")
    else:
        terminal.say(f"threshold {threshold:.3f}: 1 % of pairs of different people pass it")
    terminal.say(f"picture {picture}")
    terminal.result(
        {
            "run": found.name,
            "query": str(query),
            "threshold": threshold,
            "matches": rows,
            "picture": str(picture),
            "damaged": damaged,
        }
    )


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B")
@FLIP
@DEVICE
@json_option
def score(terminal: Terminal, run: str, first: Path, second: str, flip: bool, device: str) -> None:
    """Similarity of the image A and B: another image, or a sentence about a person.

    Two images: the cosine of their features, held against the threshold of the run's newest
    evaluation, which 1 % of pairs of different people pass. A sentence needs a run whose recipe
    has CLIP's text tower; its cosines are low, and tell sentences about one image apart.

    \b
    Example: reidpipe score baseline-tiny person.jpg other.jpg
    Example: reidpipe score clip-reid-tiny person.jpg "a person in a red coat"
    """
    found = find_run(terminal.workspace, run)
    other = Path(second)
    for path in [first, *([other] if _names_image(second) else [])]:
        if not path.is_file():
            raise ReidpipeError(
                f"found no file {path}; expected the image of one person; "
                f"type reidpipe score {found.name} IMAGE IMAGE"
            )
    if not _names_image(second):
        similarity = _sentence_similarity(terminal, found, first, second, device, flip)
        terminal.say(f"similarity {similarity:.3f} of the image and the sentence")
        terminal.say("no threshold: it is calibrated on pairs of images")
        threshold = passes = None
    else:
        encode = _encoder(terminal, found, device, flip)
        (a, b) = (encode([path])[0][0] for path in (first, other))
        similarity = _cosine(a, b)
        threshold = _threshold(terminal.workspace, found.model, flip)
        passes = None if threshold is None else similarity >= threshold
        if threshold is None:
            terminal.say(f"similarity {similarity:.3f}")
            terminal.say(f"no threshold yet; reidpipe eval {found.name} calibrates one")
        else:
            verdict = "same person" if passes else "below the threshold: different people"
            terminal.say(f"similarity {similarity:.3f}: {verdict}")
            terminal.say(f"threshold {threshold:.3f}: 1 % of pairs of different people pass it")
    terminal.result(
        {
            "run": found.name,
            "a": str(first),
            "b": second,
            "similarity": similarity,
            "threshold": threshold,
            "passes": passes,
        }
    )


def _names_image(text: str) -> bool:
    """Whether an argument is meant as a file: there is one, or it looks like the path of one."""
    from pipeline.datasets.layouts.rows import IMAGE_SUFFIXES

    path = Path(text)
    return path.exists() or path.suffix.lower() in IMAGE_SUFFIXES


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (np.asarray(row, np.float64) / np.linalg.norm(row) for row in (a, b))
    return float(a @ b)


def _sentence_similarity(
    terminal: Terminal, run: Run, image: Path, sentence: str, device: str, flip: bool
) -> float:
    """Cosine of an image and a sentence where CLIP's two towers meet."""
    from reid_train.recipe import schema

    text = run.model.params["recipe"]["model"].get("text")
    if text is None:
        raise ReidpipeError(
            f"found no image {sentence} and no text side in run '{run.name}'; expected an image, "
            "or a run of a recipe with CLIP's text tower; type the path of an image"
        )
    spec = schema.Text.model_validate(text)
    weights = _text_weights(run)
    from reid_train.search.sentences import encode_sentences

    features = _encoder(terminal, run, device, flip, feature="projected")([image])[0]
    rows = encode_sentences(
        spec, [sentence], pretrained=weights, weights=terminal.workspace.root / "weights"
    )
    return _cosine(features[0], rows[0])


def _text_weights(run: Run) -> str:
    """The weights of the text tower a run stood on: ``openai``, ``open_clip:ARCH/TAG`` or a file,
    which must be there.
    """
    start = run.model.params["pretrained"]
    if start == "openai" or is_tag(start):
        return start
    if start == "file":
        digest = run.model.weights["pretrained"]
        for path in (Path(run.model.files["pretrained"]), *clip_tiny.FILES.values()):
            if path.is_file() and sha256_file(path) == digest:
                return str(path)
        raise ReidpipeError(
            f"found no {run.model.files['pretrained']} with SHA-256 {digest[:12]}..., which run "
            f"'{run.name}' started from; expected it for the text tower; put the file back"
        )
    raise ReidpipeError(
        f"found a text tower of random numbers in run '{run.name}' (pretrained {start}); expected "
        "CLIP's; type reidpipe train with --pretrained openai or a file"
    )


Encoder = Callable[[Sequence[Path]], tuple[np.ndarray, list[Path], dict[str, str]]]


def _encoder(
    terminal: Terminal, run: Run, device: str, flip: bool, feature: str = "embedding"
) -> Encoder:
    """Image files to features by a run's model, which is made again if it was removed."""
    from reid_train import load_model
    from reid_train.engine.runtime import Runtime
    from reid_train.evaluation.image_files import embed_files

    runtime = Runtime.create(device, "fp32")
    terminal.workspace.writable()
    execution = terminal.execution(device=device)
    graph.run(terminal.workspace, [run.model], execution, announce=terminal.announce)
    model = load_model(terminal.workspace.folder(run.model), device=str(runtime.device))
    recipe = run.model.params["recipe"]
    return lambda paths: embed_files(
        model,
        paths,
        feature=feature,
        filter=recipe["input"]["test_filter"],
        runtime=runtime,
        flip=flip or recipe["test"]["flip"],
        progress=execution.progress,
    )


def _threshold(workspace: Workspace, model: Step, flip: bool) -> float | None:
    """The threshold of the newest evaluation of ``model`` with the same kind of features."""
    wanted = flip or model.params["recipe"]["test"]["flip"]
    known: list[tuple[str, float]] = []
    for artifact in workspace.find("evaluation"):
        if not artifact.complete:
            continue
        provenance = artifact.provenance()
        evaluated = Step.from_plain(provenance["inputs"]["model"])
        if evaluated.key == model.key and provenance["params"]["flip"] == wanted:
            value = read_json(artifact.folder / "threshold.json")["threshold"]
            if value is not None:
                known.append((provenance["started"], value))
    return max(known)[1] if known else None


def _draw(picture: Path, query: Path, rows: Sequence[dict[str, Any]]) -> None:
    from PIL import Image

    from pipeline.datasets.withheld import card, withdrawn_names
    from pipeline.images.pixels import decode
    from reid_train.figures.ranked_lists import CELL, Match, draw_ranked_list

    withdrawn = withdrawn_names()

    def shown(path: Path) -> np.ndarray:
        return card(path.name, CELL) if withdrawn.match(path.name) else decode(path)

    matches = [Match(shown(Path(row["image"])), row["similarity"]) for row in rows]
    sheet = Image.fromarray(draw_ranked_list(shown(query), matches))
    with replacing(picture) as temporary:
        sheet.save(temporary, "PNG")


def _tell_damaged(terminal: Terminal, damaged: dict[str, str]) -> None:
    if damaged:
        terminal.say(f"warning: {len(damaged)} damaged images are left out:")
    for reason in list(damaged.values())[:5]:
        terminal.say(f"  {reason}")
