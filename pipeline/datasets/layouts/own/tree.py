"""Folders of one's own: which are splits, cameras and people, and what the names say."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.layouts.own.found import Found, Tale
from pipeline.datasets.layouts.own.levels import Levels, find_levels
from pipeline.datasets.layouts.own.rules import NO_RULE, Rule, compiled, likely
from pipeline.datasets.layouts.own.words import (
    SPLITS,
    TEST,
    are_cameras,
    spelled,
    split_of,
    whole,
)
from pipeline.datasets.layouts.patience import check_patience
from pipeline.datasets.layouts.rows import (
    data_folders,
    is_image,
    not_a_number,
    walk_files,
    walk_images,
)
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

WRAPPINGS = 3


def unwrapped(root: Path, *tables: str) -> tuple[Path, list[str]]:
    """The folder below ``root`` where its content begins, and a note when that is another.

    tables: names of tables that, lying in a folder, are its content.
    """
    inner = root
    for _ in range(WRAPPINGS):
        folders = data_folders(inner)
        if (
            len(folders) != 1
            or split_of(folders[0].name)
            or are_cameras([folders[0].name], surely=True)
            or any((inner / table).is_file() for table in tables)
            or next(walk_images(inner, depth=1), None) is not None
            or not data_folders(folders[0])
        ):
            break
        inner = folders[0]
    return inner, [] if inner == root else [f"images are read in {inner}, the only folder there"]


def read_tree(root: Path, rule: str | None, tale: Tale, *, dataset: str) -> list[Found]:
    """What folders and names say of each image below ``root``; ``tale`` receives the rest.

    dataset: what the set is called, for the command that is proposed.

    Raises ReidpipeError for trees that can be read in two ways and rules that cannot be read, and
    for flat names of which a rule is likely.
    """
    pattern = compiled(rule)
    splits = _split_folders(root, tale)
    found: list[Found] = []
    understood: list[str] = []
    loose: list[str] = []
    for split, folder in splits.items() or [("train", root)]:
        paths = [path.relative_to(folder).as_posix() for path in walk_images(folder)]
        if not paths:
            continue
        if pattern is not None:
            check_patience(pattern.pattern.pattern, map(pattern.read, paths))
        ask = pattern is None or not pattern.says_pid
        chains = [tuple(path.split("/")[:-1]) for path in paths]
        levels = find_levels(chains, where=str(folder), people=ask)
        understood.append(levels.words if ask else f"rule {rule}")
        prefix = "" if folder == root else f"{folder.name}/"
        if ask and levels.person is None and rule != NO_RULE:
            proposed = likely([path.rsplit("/", 1)[-1] for path in paths])
            if proposed is not None or levels.camera is not None:
                command = f"reidpipe prepare {dataset} --root {shlex.quote(str(root))}"
                raise _no_identities(folder, paths, levels, proposed, command)
        found += _of_split(paths, chains, split, prefix, levels, pattern, tale, loose)
    _tell_nameless(root, found, loose, tale)
    tale.notes += other_files(root)
    tale.has_splits = bool(splits)
    if not splits:
        tale.layout = understood[0] if understood else ""
    else:
        said = "; ".join(dict.fromkeys(understood))
        tale.layout = f"split folders ({', '.join(splits)}), in them {said}"
    return found


def _of_split(
    paths: Sequence[str],
    chains: Sequence[tuple[str, ...]],
    split: str,
    prefix: str,
    levels: Levels,
    rule: Rule | None,
    tale: Tale,
    loose: list[str],
) -> list[Found]:
    found = []
    for path, chain in zip(paths, chains, strict=True):
        name = prefix + path
        fields = rule.fields(path) if rule is not None else {}
        if fields is None and rule is not None and rule.says_pid:
            tale.unmatched.append(name)
            continue
        person = (fields or {}).get("pid", "")
        if levels.person is not None:
            if len(chain) < levels.depth:
                loose.append(name)
                continue
            if len(chain) > levels.depth:
                tale.left_out["deeper than the identity folders"].append(name)
                continue
            person = chain[levels.person]
        in_camera = levels.camera is not None and len(chain) > levels.camera
        folder = chain[levels.camera] if in_camera and levels.camera is not None else ""
        found.append(_found(name, split, person, folder, fields))
    return found


def _found(path: str, split: str, person: str, folder: str, fields: dict[str, str] | None) -> Found:
    fields = fields or {}
    numbers: dict[str, int | None] = {}
    for key in ("view", "frame"):
        numbers[key] = whole(fields.get(key, ""))
        if key in fields and numbers[key] is None:
            raise not_a_number(key, fields[key], path)
    camera = spelled(fields.get("camid", ""))
    if camera and whole(camera) is None and not camera[0].isalpha():
        raise not_a_number("camid", camera, path)
    return Found(
        path=path,
        split=split,
        person=person,
        camera=camera or spelled(folder),
        view=numbers["view"],
        frame=numbers["frame"],
        sequence=fields.get("seq", ""),
    )


def _split_folders(root: Path, tale: Tale) -> dict[str, Path]:
    """Split -> its folder, by its own name or else another word for it, which is told."""
    folders = {folder.name: folder for folder in data_folders(root)}
    meant: dict[str, list[str]] = {}
    for name in folders:
        if (split := split_of(name)) is not None:
            meant.setdefault(split, []).append(name)
    chosen = {
        split: _named(split, meant[split], root) for split in (*SPLITS, TEST) if split in meant
    }
    if TEST in chosen and "query" in chosen and "gallery" not in chosen:
        chosen["gallery"] = chosen.pop(TEST)
    elif TEST in chosen and ("query" in chosen or "gallery" in chosen):
        del chosen[TEST]
    if not chosen:
        return {}
    others = [f"{name} as {split}" for split, name in chosen.items() if split not in (name, TEST)]
    if others:
        tale.notes.append(f"split folders by other names: {', '.join(others)}")
    beside = [name for name in folders if name not in chosen.values()]
    held = [name for name in beside if next(walk_images(folders[name]), None) is not None]
    held += [path.name for path in walk_images(root, depth=1)]
    if held and chosen.keys() <= {"val", TEST}:
        raise ReidpipeError(
            f"found the folder {', '.join(chosen.values())} in {root} and images in "
            f"{shortened(held)} beside it; expected splits alone (with train, or query and "
            "gallery) or people alone; rename or move it"
        )
    if held:
        tale.notes.append(
            f"warning: left out, beside the split folders {', '.join(chosen.values())}: images in "
            f"{shortened(held, 5)}"
        )
    return {split: folders[name] for split, name in chosen.items()}


def _named(split: str, names: list[str], root: Path) -> str:
    if split in names:
        return split
    if len(names) > 1:
        raise ReidpipeError(
            f"found the folders {', '.join(names)} in {root}, all of which could be the split "
            f"{split}; expected one; rename it {split}"
        )
    return names[0]


def _no_identities(
    folder: Path, paths: Sequence[str], levels: Levels, proposed: str | None, command: str
) -> ReidpipeError:
    kind = "in camera folders " if levels.camera is not None else ""
    what = (
        f"found {len(paths)} images {kind}without identity folders in {folder}, such as {paths[0]}"
    )
    if proposed is None:
        return ReidpipeError(
            f"{what}, and no scheme in their names; expected FOLDER/<identity>/<image>, a CSV with "
            "a column path, or a naming rule with a group (?P<pid>...); or type --rule none to "
            "take them without identities"
        )
    return ReidpipeError(
        f"{what}; expected FOLDER/<identity>/<image> or a naming rule (the word none: take them "
        f"without identities); their names have a scheme, so type {command} --rule "
        f"{shlex.quote(proposed)}"
    )


def _tell_nameless(root: Path, found: list[Found], loose: list[str], tale: Tale) -> None:
    if loose:
        tale.left_out["without an identity, beside the identity folders"] += loose
    tables = sorted(p.name for p in root.iterdir() if p.suffix.lower() in (".csv", ".tsv"))
    if tables and found and not any(image.person for image in found):
        tale.notes.append(
            f"beside the images lies {shortened(tables)}; if it says who they show, type "
            f"--root {root / tables[0]}"
        )


def other_files(root: Path) -> list[str]:
    """A line that counts what has no suffix of an image, if there is any: a person must see it if
    these are images too.
    """
    counted = _other_suffixes(root)
    return [f"not read, no images by their suffix: {counted}"] if counted else []


def no_image(root: Path) -> tuple[str, str]:
    """What is found where nothing has an image's suffix, and what to do, as words of a mistake's
    line: telephones write photographs that few programs read.
    """
    counted = _other_suffixes(root)
    if not counted:
        return "no image", "type the folder that holds them"
    return (
        f"no image by its suffix, but {counted},",
        "convert these to JPEG or PNG if they are photographs, or type the folder that holds them",
    )


def _other_suffixes(root: Path) -> str:
    """How many files there are of each suffix that is no image's, with an example."""
    suffixes: Counter[str] = Counter()
    example: dict[str, str] = {}
    for place, entry in walk_files(root):
        if not is_image(entry.name):
            suffix = Path(entry.name).suffix.lower() or "without suffix"
            suffixes[suffix] += 1
            example.setdefault(suffix, entry.name if place == "." else f"{place}/{entry.name}")
    listed = [f"{n} {suffix} ({example[suffix]})" for suffix, n in suffixes.most_common()]
    return shortened(listed, 5) if listed else ""
