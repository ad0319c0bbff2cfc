"""``reidpipe embed``, ``search`` and ``score``: a trained run on images that are in no dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.artifacts.runs import find_run
from pipeline.terminal.commandline import CONTEXT, DEVICE, Terminal, check_out, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table
from reid_train.evaluation.results import distance_of
from reid_train.evaluation.similarity import NAMES, similarity
from reid_train.models import COSINE
from reid_train.search.encoder import run_encoder, with_mirrored
from reid_train.search.threshold import newest_threshold, threshold_line

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
    """A gallery of all images below DIR, for search and reid_train.open_gallery: features.npy
    (N, D) and gallery.json, which names the images and the model.

    Typed again, it computes only images that are new or have changed. Features are not normalised;
    damaged images are left out and named.
    Example: reidpipe embed baseline-tiny photos --out gallery
    """
    from reid_train.evaluation.image_files import images_below
    from reid_train.search.extension import (
        check_folder,
        extend,
        find_extension,
        gallery_to_extend,
    )

    found = find_run(terminal.workspace, run)
    paths = images_below(folder)
    target = out or terminal.workspace.root / "embeddings" / f"{found.name}-{folder.resolve().name}"
    check_out(target, folder=True)
    mirrored = with_mirrored(found, flip)
    before = gallery_to_extend(terminal.workspace, found, target, mirrored)
    if out is None and before is not None:
        check_folder(before, folder, target)
    extension = find_extension(folder, paths, before)
    gallery, damaged = extend(
        target,
        extension,
        lambda images: run_encoder(terminal, found, device, mirrored)(images),
        model_key=found.model.key,
        flip=mirrored,
        threshold=newest_threshold(terminal.workspace, found.model, mirrored),
        distance=distance_of(found.model),
    )
    computed = len(extension.names) - len(damaged)
    _tell_damaged(terminal, damaged)
    if not extension.names:
        terminal.say(f"nothing to do: the features of all {len(paths)} images exist")
    elif before is not None:
        terminal.say(f"computed {computed} images that are new or have changed")
    dimension = gallery.features.shape[1]
    terminal.say(f"{len(gallery)} images, {dimension} numbers each, in {target}")
    terminal.result(
        {
            "run": found.name,
            "folder": str(target),
            "images": len(gallery),
            "computed": computed,
            "dimension": dimension,
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
    """Images of GALLERY that resemble the image QUERY most, with a picture.

    GALLERY is a folder of images, or what reidpipe embed made of one: then only QUERY is computed.
    Similarity is the cosine of features, or minus their distance where the model compares them so;
    that of an evaluated run is held against the threshold which 1 % of pairs of different people
    pass. Images of withdrawn datasets, known by their file names, are not drawn.

    \b
    Example: reidpipe search baseline-tiny person.jpg photos --top 5
    Example: reidpipe search baseline-tiny person.jpg gallery
    """
    from reid_train.evaluation.image_files import images_below
    from reid_train.search.drawing import draw_matches
    from reid_train.search.gallery import Gallery, is_gallery, open_gallery_of

    found = find_run(terminal.workspace, run)
    if not query.is_file():
        raise ReidpipeError(
            f"found no file {query}; expected the image of one person; "
            f"type reidpipe search {found.name} IMAGE DIR"
        )
    picture = out or terminal.workspace.root / "reports" / f"search-{found.name}-{query.stem}.png"
    mirrored = with_mirrored(found, flip)
    stored, paths = None, []
    if is_gallery(gallery):
        stored, about = open_gallery_of(terminal.workspace, found, gallery)
        if mirrored and not about.flip:
            raise ReidpipeError(
                f"found features without the mirrored images' in {gallery}; expected no --flip; "
                "leave it out, or type another GALLERY"
            )
        mirrored, paths = about.flip, about.paths()
    else:
        paths = images_below(gallery)
    check_out(picture, folder=False)
    encode = run_encoder(terminal, found, device, mirrored)
    wanted, _, _ = encode([query])
    damaged: dict[str, str] = {}
    if stored is None:
        features, paths, damaged = encode(paths)
        names = [str(path) for path in paths]
        stored = Gallery(names, features, distance=distance_of(found.model))
    threshold = stored.about.threshold if stored.about else None
    threshold = threshold or newest_threshold(terminal.workspace, found.model, mirrored)
    near, places = stored.search(wanted, top=top)
    rows: list[dict[str, Any]] = [
        {
            "image": str(paths[place]),
            "similarity": float(value),
            "passes": None if threshold is None else threshold.passed(value),
        }
        for place, value in zip(places[0], near[0], strict=True)
    ]
    draw_matches(picture, query, [(Path(row["image"]), row["similarity"]) for row in rows])

    _tell_damaged(terminal, damaged)
    words = {True: "same person", False: "below", None: "unknown"}
    shown = [
        {**row, "similarity": f"{row['similarity']:.3f}", "threshold": words[row["passes"]]}
        for row in rows
    ]
    terminal.say(format_table(shown, ["similarity", "threshold", "image"]))
    if stored.distance != COSINE:
        terminal.say(f"similarity: {NAMES[stored.distance]}")
    terminal.say(threshold_line(found, threshold))
    terminal.say(f"picture {picture}")
    terminal.result(
        {
            "run": found.name,
            "query": str(query),
            "threshold": None if threshold is None else threshold.similarity,
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

    Two images: the cosine of their features (minus their distance where the model compares them
    so), held against the threshold of the run's newest
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
    mirrored = with_mirrored(found, flip)
    if not _names_image(second):
        from reid_train.search.sentences import sentence_similarity

        alike = sentence_similarity(
            found,
            lambda paths: run_encoder(terminal, found, device, mirrored, "projected")(paths),
            first,
            second,
            weights=terminal.workspace.root / "weights",
        )
        terminal.say(f"similarity {alike:.3f} of the image and the sentence")
        terminal.say("no threshold: it is calibrated on pairs of images")
        threshold = passes = None
    else:
        encode = run_encoder(terminal, found, device, mirrored)
        (a, b) = (encode([path])[0][0] for path in (first, other))
        distance = distance_of(found.model)
        alike = similarity(a, b, distance)
        threshold = newest_threshold(terminal.workspace, found.model, mirrored)
        passes = None if threshold is None else threshold.passed(alike)
        verdict = {
            None: "",
            True: ": same person",
            False: ": below the threshold: different people",
        }
        unit = "" if distance == COSINE else f" ({NAMES[distance]})"
        terminal.say(f"similarity {alike:.3f}{unit}{verdict[passes]}")
        terminal.say(threshold_line(found, threshold))
    terminal.result(
        {
            "run": found.name,
            "a": str(first),
            "b": second,
            "similarity": alike,
            "threshold": None if threshold is None else threshold.similarity,
            "passes": passes,
        }
    )


def _names_image(text: str) -> bool:
    """Whether an argument is meant as a file: there is one, or it looks like the path of one."""
    from pipeline.datasets.layouts.rows import IMAGE_SUFFIXES

    path = Path(text)
    return path.exists() or path.suffix.lower() in IMAGE_SUFFIXES


def _tell_damaged(terminal: Terminal, damaged: dict[str, str]) -> None:
    if damaged:
        terminal.say(f"warning: {len(damaged)} damaged images are left out:")
    for reason in list(damaged.values())[:5]:
        terminal.say(f"  {reason}")
