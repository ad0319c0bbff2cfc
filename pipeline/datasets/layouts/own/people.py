"""From names to numbers: who is a person, which names are one, which camera is which."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pipeline.datasets.layouts.own.found import Found, Tale
from pipeline.datasets.layouts.own.words import is_nobody, spelled, whole
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.datasets.layouts.splits import number_identities
from pipeline.terminal.printable import shortened

# Market-1501 calls what its detector took for a person 0000; its file names give it away.
_MARKET_DISTRACTOR = re.compile(r"0+_c\d+s\d+_\d+_\d+\.")


def people_only(found: Sequence[Found], tale: Tale, *, everyone: bool = False) -> list[Found]:
    """The images that take part, each person under one name; the others are told.

    Names that differ in their Unicode form, in blanks around them or as 3 and 3.0 do are one
    person. Junk (-1, nan, ...) and images without an identity take no part, unless no image of
    the training split has any: these are trained on without labels. Distractors (Market's 0000)
    are nobody's match and stay in the gallery alone. everyone: keep those without an identity too.
    """
    named = _one_name_each(found, tale)
    if everyone:
        return named
    unlabelled = {
        split
        for split in ("train", "val")
        if not any(image.person for image in named if image.split == split)
    }
    result = []
    for before, image in zip(found, named, strict=True):
        if image.person and _is_distractor(image) and image.split not in ("gallery", "test"):
            tale.left_out["distractor 0000 outside the gallery"].append(image.path)
        elif image.person or (image.split in unlabelled and not before.person.strip()):
            result.append(image)
        else:
            text = before.person.strip()
            reason = f"junk identity {text}" if text else "without an identity"
            tale.left_out[reason].append(image.path)
    alone = sum(not image.person for image in result)
    if alone:
        tale.notes.append(
            f"{alone} images without identities: for recipes that need none; "
            "type reidpipe recipes --for label-free"
        )
    return result


def _is_distractor(image: Found) -> bool:
    name = image.path.rsplit("/", 1)[-1]
    return whole(image.person) == 0 and _MARKET_DISTRACTOR.match(name) is not None


def _one_name_each(found: Sequence[Found], tale: Tale) -> list[Found]:
    written: dict[str, set[str]] = defaultdict(set)
    result = []
    for image in found:
        name = spelled(image.person)
        name = re.sub(r"^(-?\d+)\.0+$", r"\1", name)
        written[name].add(image.person)
        result.append(replace(image, person="" if is_nobody(name) else name))
    forms = [
        name for name, texts in written.items() if len({t.strip() for t in texts}) > 1 and name
    ]
    if forms and (odd := [name for name in forms if whole(name) is None]):
        tale.notes.append(
            f"{len(odd)} names are written in two Unicode forms and are one person each: "
            f"{shortened(sorted(odd))}"
        )
    return result


def numbered(found: Sequence[Found], tale: Tale) -> list[LayoutRow]:
    """Rows with identities and cameras as numbers.

    Identities that are no numbers, or of which two are one number (7 and 007), are numbered in
    sorted order and kept as column ``identity``. Cameras that are no numbers count from 0 in
    natural order, which is told: another tree's camera 0 may be another camera.
    """
    cameras = _camera_numbers(sorted({image.camera for image in found if image.camera}), tale)
    numbers: dict[int | None, list[str]] = defaultdict(list)
    for name in dict.fromkeys(image.person for image in found if image.person):
        numbers[whole(name)].append(name)
    same = [sorted(names)[:2] for n, names in numbers.items() if n is not None and names[1:]]
    if same:
        tale.notes.append(
            f"warning: identities {' and '.join(same[0])} are one number, so all keep their text"
        )
    texts = bool(same) or None in numbers
    rows = [
        LayoutRow(
            path=image.path,
            split=image.split,
            pid=None if texts or not image.person else whole(image.person),
            camid=cameras.get(image.camera),
            view=image.view,
            sequence=image.sequence,
            frame=image.frame,
            extra={**image.extra, **({"identity": image.person} if texts else {})},
        )
        for image in found
    ]
    return number_identities(rows)


def _camera_numbers(names: Sequence[str], tale: Tale) -> dict[str, int]:
    if all(whole(name) is not None for name in names):
        return {name: number for name in names if (number := whole(name)) is not None}
    ordered = sorted(names, key=_natural)
    listed = [f"{number} = {name}" for number, name in enumerate(ordered)]
    tale.notes.append(f"cameras are numbered: {shortened(listed, 8)}")
    tale.cameras = dict(enumerate(ordered))
    return {name: number for number, name in tale.cameras.items()}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    # cam2 comes before cam10.
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
