"""``reidpipe embed``, ``search`` and ``score``: a trained run on images that are in no dataset."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts.runs import find_run
from pipeline.terminal.commandline import CONTEXT, DEVICE, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.paths import TypedPath, check_out
from reid_train.search.encoder import making, run_encoder

FLIP = click.option("--flip", is_flag=True, help="Add the mirrored image's features.")
RULE = click.option(
    "--rule", help=r"Identities in file names, e.g. '(?P<pid>\d+)_c(?P<camid>\d+).*'."
)
PATH = TypedPath()
PAGES = 20


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("folder", metavar="DIR|CSV|DATASET", type=PATH)
@click.option("--out", type=PATH, help="Folder to write.  [default: in the workspace]")
@RULE
@click.option(
    "--no-identities", is_flag=True, help="Folders' names are not those of people; nor is a table."
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "query", "gallery"]),
    help="Of a prepared dataset.  [default: gallery]",
)
@FLIP
@DEVICE
@json_option
def embed(
    terminal: Terminal,
    run: str,
    folder: Path,
    out: Path | None,
    rule: str | None,
    no_identities: bool,
    split: str | None,
    flip: bool,
    device: str,
) -> None:
    """A gallery of all images below DIR, of a CSV table (path, and pid, camid if known) or of a
    prepared dataset, for search and reid_train.open_gallery: features.npy (N, D) and gallery.json,
    which names the images, the model and its threshold.

    Where every image lies in a folder per person, those names are its identities. Typed again, it
    computes only images that are new or have changed; killed, it goes on where it was. Features are
    not normalised; damaged images are left out and named.

    \b
    Example: reidpipe embed baseline-tiny photos --out gallery
    Example: reidpipe embed baseline-tiny people.csv --out gallery
    """
    from reid_train.search.extension import (
        check_same_place,
        extend,
        find_extension,
        gallery_to_extend,
    )
    from reid_train.search.places import check_embedded, images_named
    from reid_train.search.telling import tell_damaged
    from reid_train.search.threshold import newest_calibration
    from reid_train.search.writing import one_writer

    found = find_run(terminal.workspace, run)
    known = not no_identities
    check_embedded(folder, rule=rule, split=split, known=known)
    images = images_named(
        terminal, folder, rule=rule, known=known, split=split or "gallery", or_all=split is None
    )
    target = out or terminal.workspace.root / "embeddings" / f"{found.name}-{images.called}"
    check_out(target, folder=True)
    how = making(found, flip)
    with one_writer(target):
        before = gallery_to_extend(terminal.workspace, found, target, how)
        if out is None and before is not None:
            check_same_place(before, images, target)
        extension = find_extension(images, before)
        gallery, damaged = extend(
            target,
            extension,
            lambda paths: run_encoder(terminal, found, device, how)(paths),
            how=how,
            calibrated=newest_calibration(terminal.workspace, how),
            tell=terminal.note,
        )
    computed = len(extension.names) - len(damaged)
    for note in images.notes:
        terminal.say(note)
    tell_damaged(terminal, damaged)
    if not extension.names:
        terminal.say(f"nothing to do: the features of all {len(images)} images exist")
    elif before is not None and not computed:
        readable = len(images) - len(damaged)
        terminal.say(f"nothing to do: the features of the {readable} that can be read exist")
    elif before is not None:
        terminal.say(f"computed {computed} images that are new or have changed")
    assert gallery.about is not None
    people, known_on = gallery.about.people_on(images.paths)
    terminal.say(
        f"identities: {people} people on {known_on} of {len(images)} images"
        if people
        else "identities: none known (a folder per person, --rule or a CSV with path,pid,camid)"
    )
    dimension = gallery.features.shape[1]
    terminal.say(f"{len(gallery)} images, {dimension} numbers each, in {target}")
    terminal.result(
        {
            "run": found.name,
            "folder": str(target),
            "images": len(gallery),
            "computed": computed,
            "people": people,
            "dimension": dimension,
            "damaged": damaged,
            "notes": list(images.notes),
        }
    )


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True, type=PATH)
@click.argument("gallery", type=PATH)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Matches.")
@click.option(
    "--min-similarity", type=float, metavar="S", help="Only matches of at least this similarity."
)
@click.option(
    "--fpr",
    type=float,
    metavar="F",
    help="Only matches that this share of pairs of different people reaches (0.01 is 1 %).",
)
@click.option("--exclude-self", is_flag=True, help="The query's own file is no match.")
@click.option(
    "--out",
    "outs",
    multiple=True,
    type=PATH,
    help="FILE.png (contact sheet), FILE.csv, FILE.json, or a folder for all; repeatable.  "
    "[default: a sheet in the workspace]",
)
@click.option(
    "--pages", type=click.IntRange(0), default=PAGES, show_default=True, help="Of the sheet."
)
@RULE
@click.option(
    "--through",
    type=click.Choice(["numpy", "faiss"]),
    default="numpy",
    show_default=True,
    help="What compares features; the results are equal.",
)
@FLIP
@DEVICE
@json_option
def search(
    terminal: Terminal,
    run: str,
    queries: tuple[Path, ...],
    gallery: Path,
    top: int,
    min_similarity: float | None,
    fpr: float | None,
    exclude_self: bool,
    outs: tuple[Path, ...],
    pages: int,
    rule: str | None,
    through: str,
    flip: bool,
    device: str,
) -> None:
    """Images of GALLERY that resemble each QUERY most, with a picture.

    QUERY is an image, a folder of images, a CSV table or a prepared dataset (its queries). GALLERY
    is what reidpipe embed made, or a folder, table, dataset or image itself. Similarity is that of
    features (the cosine, unless the model says otherwise), held against the threshold of the run's
    newest evaluation or of the gallery. Where people are known on both sides, matches are marked
    right or wrong. Images of withdrawn datasets, known by their file names, are not drawn.

    \b
    Example: reidpipe search baseline-tiny person.jpg photos --top 5
    Example: reidpipe search baseline-tiny queries gallery --fpr 0.01 --out found
    """
    from reid_train.evaluation.similarity import NAMES
    from reid_train.models import COSINE
    from reid_train.search.matches import find_matches
    from reid_train.search.nearest import way_to_search
    from reid_train.search.places import (
        check_searched,
        encoded_queries,
        place_to_search,
        queries_at,
    )
    from reid_train.search.telling import (
        check_apart,
        outputs,
        tell_damaged,
        tell_matches,
        write_outputs,
    )
    from reid_train.search.threshold import threshold_lines, threshold_of

    found = find_run(terminal.workspace, run)
    check_searched(queries, gallery, rule)
    asked = [queries_at(terminal, found, query, rule) for query in queries]
    place = place_to_search(terminal, found, gallery, flip=flip, rule=rule)
    through = way_to_search(through)
    passing = fpr is not None or min_similarity is not None
    threshold = threshold_of(found, place.how, place.calibrated, fpr=fpr, similarity=min_similarity)
    usual = terminal.workspace.root / "reports" / f"search-{found.name}-{queries[0].stem}.png"
    files = outputs(outs, usual)
    if outs:
        searched = place.files({file.name for file in files})
        check_apart(files, chain(searched, *(images.paths.values() for images in asked)))

    encode = run_encoder(terminal, found, device, place.how)
    wanted, damaged = encoded_queries(encode, queries, asked)
    opened, at, broken = place.opened(encode)
    own = [at.own(query.path) if exclude_self else set() for query in wanted]
    results = find_matches(
        [at.known(query, opened) for query in wanted],
        opened,
        at,
        top=top,
        threshold=threshold,
        passing=passing,
        hidden=own,
        through=through,
    )

    notes = [note for images in (*asked, place.images) if images for note in images.notes]
    for note in notes:
        terminal.say(note)
    tell_damaged(terminal, damaged | broken)
    if top > len(opened):
        terminal.note(f"the gallery has {len(opened)} images: --top {top} is all of them")
    left = [len(opened) - len(rows) for rows in own]
    tell_matches(terminal, results, top, passing=passing, left=left)
    if opened.distance != COSINE:
        terminal.say(f"similarity: {NAMES[opened.distance]}")
    lines = threshold_lines(found, place.how, threshold)
    for line in lines:
        terminal.say(line)
    result: dict[str, Any] = {
        "run": found.name,
        "queries": [str(query.path) for query in wanted],
        **({"query": str(wanted[0].path)} if len(wanted) == 1 else {}),
        "threshold": None if threshold is None else threshold.similarity,
        "threshold_about": None if threshold is None else threshold.model_dump(),
        "matches": [match.plain() for _, matches in results for match in matches],
        "damaged": damaged | broken,
        "notes": notes,
    }
    heading = [f"{found.name}, {len(opened)} images", *lines]
    result |= write_outputs(terminal, files, results, result, heading=heading, pages=pages)
    terminal.result(result)


@click.command(context_settings=CONTEXT)
@click.argument("run")
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B")
@FLIP
@DEVICE
@json_option
def score(terminal: Terminal, run: str, first: Path, second: str, flip: bool, device: str) -> None:
    """Similarity of the image A and B: another image, or a sentence about a person.

    Two images: the similarity of their features, held against the threshold of the run's newest
    evaluation, which says what share of pairs of different people passes it. A sentence needs a run
    of CLIP's own trunk whose recipe has its text tower, no student of one; its cosines are low, and
    tell sentences about one image apart.

    \b
    Example: reidpipe score baseline-tiny person.jpg other.jpg
    Example: reidpipe score clip-reid-tiny person.jpg "a person in a red coat"
    """
    from reid_train.evaluation.similarity import NAMES, similarity
    from reid_train.models import COSINE
    from reid_train.search.threshold import newest_calibration, threshold_lines

    found = find_run(terminal.workspace, run)
    other = Path(second)
    for path in [first, *([other] if _names_image(second) else [])]:
        if not path.is_file():
            raise ReidpipeError(
                f"found no file {path}; expected the image of one person; "
                f"type reidpipe score {found.name} IMAGE IMAGE"
            )
    how = making(found, flip)
    threshold = passes = None
    if not _names_image(second):
        from reid_train.search.sentences import PROJECTED, sentence_similarity

        alike = sentence_similarity(
            found,
            lambda paths: run_encoder(terminal, found, device, how, PROJECTED)(paths),
            first,
            second,
            weights=terminal.workspace.root / "weights",
        )
        terminal.say(f"similarity {alike:.3f} of the image and the sentence")
        terminal.say("no threshold: it is calibrated on pairs of images")
    else:
        encode = run_encoder(terminal, found, device, how)
        (a, b) = (encode([path])[0][0] for path in (first, other))
        alike = similarity(a, b, how.distance)
        threshold = newest_calibration(terminal.workspace, how).threshold
        passes = None if threshold is None else threshold.passed(alike)
        verdict = {
            None: "",
            True: ": same person",
            False: ": below the threshold: different people",
        }
        kind = "" if how.distance == COSINE else f" ({NAMES[how.distance]})"
        terminal.say(f"similarity {alike:.3f}{kind}{verdict[passes]}")
        for line in threshold_lines(found, how, threshold):
            terminal.say(line)
    terminal.result(
        {
            "run": found.name,
            "a": str(first),
            "b": second,
            "similarity": alike,
            "threshold": None if threshold is None else threshold.similarity,
            "threshold_about": None if threshold is None else threshold.model_dump(),
            "passes": passes,
        }
    )


def _names_image(text: str) -> bool:
    """Whether an argument is meant as a file: there is one, or it looks like the path of one."""
    from pipeline.datasets.layouts.rows import is_image

    # Not Path.exists, which raises for a sentence longer than a file's name may be.
    return os.path.lexists(text) or is_image(text)
