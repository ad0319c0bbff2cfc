"""Other people's names of body parts and clothes -> our label sets: by name, never by number."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import parse_json
from pipeline.labels.sets import LABEL_SETS, LIP, LabelSet
from pipeline.terminal.errors import ReidpipeError, nearest

# Spellings met in published models, as ``plain`` writes them -> ours. Only other words for the same
# thing: a name that means less or more than ours is for a user's own table to decide.
SYNONYMS: dict[str, str] = {
    "bg": "background",
    "hats": "hat",
    "hairs": "hair",
    "gloves": "glove",
    "glasses": "sunglasses",
    "upperclothing": "upperclothes",
    "uppercloth": "upperclothes",
    "coats": "coat",
    "sock": "socks",
    "pant": "pants",
    "trousers": "pants",
    "jumpsuit": "jumpsuits",
    "scarves": "scarf",
    "skirts": "skirt",
    "dresses": "dress",
    "torsoneckskin": "torsoskin",
    "neckskin": "torsoskin",
    "lshoe": "leftshoe",
    "rshoe": "rightshoe",
    "leftshoes": "leftshoe",
    "rightshoes": "rightshoe",
    "larm": "leftarm",
    "rarm": "rightarm",
    "lleg": "leftleg",
    "rleg": "rightleg",
    "belts": "belt",
    "bags": "bag",
    "upperarm": "upperarms",
    "lowerarm": "lowerarms",
    "upperleg": "upperlegs",
    "lowerleg": "lowerlegs",
}


def plain(name: str) -> str:
    """A name without case, hyphens, underscores and spaces: ``Left-shoe`` -> ``leftshoe``."""
    return "".join(name.casefold().translate({ord(mark): " " for mark in "-_"}).split())


def target_set(value: LabelSet | str = LIP) -> LabelSet:
    """The label set of that name. Raises ``ReidpipeError`` for a name that is none."""
    if isinstance(value, LabelSet):
        return value
    if value not in LABEL_SETS:
        raise ReidpipeError(
            f"found label set '{value}'{nearest(value, LABEL_SETS)}; expected one of "
            f"{', '.join(LABEL_SETS)}; type one of them"
        )
    return LABEL_SETS[value]


def class_table(
    names: Sequence[str],
    target: LabelSet = LIP,
    label_map: Mapping[str, str] | None = None,
    *,
    source: str = "the model",
) -> tuple[int, ...]:
    """For each class of a network, by its name, the class of ``target`` it becomes.

    Without ``label_map`` all names must be those of one of our sets, in any order and spelling
    (``plain``, ``SYNONYMS``); the rest is that set's ``map_to(target)``. With it, the map decides
    alone: one entry of ``target`` for every name. Names that spell the same share an entry.
    Raises ``ReidpipeError`` naming the first name that has no class, the first entry of the map
    that is no name of the network, or the first target that does not exist.
    """
    if label_map is not None:
        return _by_map(names, target, label_map, source)
    sets = (target, *(each for each in LABEL_SETS.values() if each.name != target.name))
    unknown = {each.name: _unknown(names, each) for each in sets}
    best = min(sets, key=lambda each: len(unknown[each.name]))
    if unknown[best.name]:
        first, *others = unknown[best.name]
        more = f" and {len(others)} more" if others else ""
        raise ReidpipeError(
            f"found label '{first}'{nearest(first, best.names)}{more} in {source}; expected the "
            f"names of one label set ({', '.join(LABEL_SETS)}); type --label-map FILE.json, which "
            f"gives each of its {len(names)} labels a name of {target.name}"
        )
    known = _classes(best)
    to_target = best.map_to(target)
    return tuple(int(to_target[known[_ours(name)]]) for name in names)


def flip_order(known: Container[int], target: LabelSet) -> np.ndarray:
    """``target.flip_order`` int64 (C,) for a network that says the classes ``known`` alone: a class
    whose other side it never says holds both, and stays what it is when mirrored.
    """
    order = np.arange(len(target))
    for left, right in target.flip_pairs:
        if (left in known) == (right in known):
            order[[left, right]] = right, left
    return order


def read_label_map(value: Mapping[str, str] | Path | str) -> dict[str, str]:
    """{their name: our name} as given, or from a JSON file.

    Raises ``ReidpipeError`` for a file that is absent or holds anything else.
    """
    content: Any = value
    source = "the label map given"
    if isinstance(value, Path | str):
        path = Path(value).expanduser()
        source = f"label map {path}"
        try:
            content = parse_json(path.read_bytes(), by_hand=True)
        except OSError as error:
            raise ReidpipeError(
                f"found no readable {source} ({error.strerror}); expected a JSON file with "
                '{"their label": "our label"}; type --label-map FILE.json'
            ) from error
        except ValueError as error:
            raise ReidpipeError(
                f"found {source} that is no JSON ({error}); expected "
                '{"their label": "our label"}; correct the file'
            ) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) for pair in content.items() for name in pair
    ):
        raise ReidpipeError(
            f'found {source} of another form; expected {{"their label": "our label"}} with names '
            "on both sides; correct it"
        )
    return dict(content)


def _by_map(
    names: Sequence[str], target: LabelSet, label_map: Mapping[str, str], source: str
) -> tuple[int, ...]:
    given = {plain(theirs): ours for theirs, ours in label_map.items()}
    network = {plain(name) for name in names}
    missing = [name for name in names if plain(name) not in given]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ReidpipeError(
            f"found no entry for label '{missing[0]}'{more} of {source} in the label map; expected "
            f"each of its {len(names)} labels; add it with one of {', '.join(target.names)}"
        )
    for theirs, ours in label_map.items():
        if plain(theirs) not in network:
            raise ReidpipeError(
                f"found '{theirs}'{nearest(theirs, names)} in the label map; expected labels of "
                f"{source}: {', '.join(names)}; correct or remove it"
            )
        if _ours(ours) not in _classes(target):
            raise ReidpipeError(
                f"found '{ours}'{nearest(ours, target.names)} for label '{theirs}' in the label "
                f"map; expected a name of {target.name}: {', '.join(target.names)}; correct it"
            )
    return tuple(_classes(target)[_ours(given[plain(name)])] for name in names)


def _unknown(names: Sequence[str], labels: LabelSet) -> list[str]:
    known = _classes(labels)
    return [name for name in names if _ours(name) not in known]


def _classes(labels: LabelSet) -> dict[str, int]:
    return {plain(name): number for number, name in enumerate(labels.names)}


def _ours(name: str) -> str:
    found = plain(name)
    return SYNONYMS.get(found, found)
