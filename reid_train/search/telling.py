"""What a search tells: a table on the terminal, files, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import write_json
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.paths import check_out
from pipeline.terminal.printable import shortened
from pipeline.terminal.tables import format_table
from reid_train.search.matches import Match, Query, write_table
from reid_train.search.people import same_file

Results = Sequence[tuple[Query, Sequence[Match]]]

SHOWN = 50  # queries whose matches are printed
PICTURE, TABLE, PLAIN = ".png", ".csv", ".json"


def outputs(outs: Sequence[Path], usual: Path) -> list[Path]:
    """The files to write, whose folders are made: ``usual`` where nothing was asked for; sheet,
    table and JSON for a folder, whose name has no suffix. Raises ReidpipeError for any other kind.
    """
    files: list[Path] = []
    for out in outs or [usual]:
        check_out(out, folder=not out.suffix)
        if not out.suffix:
            files += [out / "sheet.png", out / "matches.csv", out / "matches.json"]
        elif out.suffix in (PICTURE, TABLE, PLAIN):
            files.append(out)
        else:
            raise ReidpipeError(
                f"found --out {out}; expected a name that ends in .png, .csv or .json, or a "
                f"folder; type --out {out.parent / f'{out.stem}.png'}"
            )
    return files


def check_apart(files: Sequence[Path], read: Iterable[Path]) -> None:
    """Raise ReidpipeError for a file to write that is one of the images ``read``."""
    names = {file.name: file for file in files}
    for path in read:
        if path.name in names and same_file(names[path.name], path):
            raise ReidpipeError(
                f"found --out {names[path.name]}, an image that is searched; expected another "
                "file; type another --out"
            )


def tell_matches(
    terminal: Terminal, results: Results, top: int, *, passing: bool, left: Sequence[int]
) -> None:
    """The ranked matches as a table, queries without any, and how often rank 1 is right.

    passing: whether matches are those alone that reach a threshold. left: how many images of the
    gallery could be a match of each query.
    """
    rows = [_row(match) for _, matches in results[:SHOWN] for match in matches]
    known = [c for c in ("person", "verdict", "camera") if any(row[c] is not None for row in rows)]
    columns = ["rank", "similarity", "threshold", *known, "image"]
    if rows:
        terminal.say(format_table(rows, ["query", *columns] if len(results) > 1 else columns))
    if len(results) > SHOWN:
        terminal.say(f"and {len(results) - SHOWN} queries more: --out FILE.csv has all")
    for query, matches in results:
        if not matches:
            terminal.say(f"{query.path}: no match")
    full = (len(found) == top < n for (_, found), n in zip(results, left, strict=True))
    if passing and any(full):
        terminal.say(f"more than {top} images may pass: a higher --top shows them")
    judged = [matches[0].verdict for _, matches in results if matches and matches[0].verdict]
    right, cameras = judged.count("right"), "images of the same camera included"
    if judged and passing:
        asked = [bool(matches) for query, matches in results if query.person is not None]
        terminal.say(
            f"of {len(asked)} queries whose person is known, {sum(asked)} have a match: "
            f"rank 1 is right for {right}, wrong for {len(judged) - right}, {cameras}"
        )
    elif judged:
        terminal.say(
            f"rank 1 is right for {right} of {len(judged)} queries whose person is known, {cameras}"
        )


def _row(match: Match) -> dict[str, Any]:
    passes = {True: "same person", False: "below", None: "unknown"}
    cameras = {True: "same", False: "other", None: None}
    return {
        "query": match.query,
        "rank": match.rank,
        "similarity": f"{match.similarity:.3f}",
        "threshold": passes[match.passes],
        "person": match.person,
        "verdict": match.verdict,
        "camera": cameras[match.same_camera],
        "image": match.image,
    }


def write_outputs(
    terminal: Terminal,
    files: Sequence[Path],
    results: Results,
    result: Mapping[str, Any],
    *,
    heading: Sequence[str],
    pages: int,
) -> dict[str, Any]:
    """Write the files of ``outputs``, JSON being ``result`` with what is returned: ``picture``, the
    first page of the sheet or None, and where there is more ``written``, all files.
    """
    from reid_train.search.drawing import draw_sheets

    groups: list[list[str]] = []
    picture = None
    for file in files:
        if file.suffix == TABLE:
            write_table(file, [matches for _, matches in results])
            groups.append([str(file)])
        elif file.suffix == PICTURE and pages:
            sheets, shown = draw_sheets(file, results, heading=heading, pages=pages)
            groups.append([str(sheet) for sheet in sheets])
            picture = picture or groups[-1][0]
            if shown < len(results):
                terminal.say(f"pictures of {shown} of {len(results)} queries: --pages has more")
    plain = [file for file in files if file.suffix == PLAIN]
    groups += [[str(file)] for file in plain]
    written = [name for group in groups for name in group]
    made = {"picture": picture, **({"written": written} if written != [picture] else {})}
    for file in plain:
        write_json(file, {**result, **made})
    if written:
        told = ", ".join(shortened(group, 1) for group in groups)
        terminal.say(f"picture {picture}" if written == [picture] else f"wrote {told}")
    return made


def tell_damaged(terminal: Terminal, damaged: Mapping[str, str]) -> None:
    """Images that are left out, the first few with their reasons."""
    if damaged:
        terminal.say(f"warning: {len(damaged)} damaged images are left out:")
    for reason in list(damaged.values())[:5]:
        terminal.say(f"  {reason}")
    if len(damaged) > 5:
        terminal.say(f"  and {len(damaged) - 5} more")
