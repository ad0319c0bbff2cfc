"""What people write: recipes, learners' recipes, manifests, --set, label maps, plugins."""

from __future__ import annotations

import json
import random
from importlib import resources
from typing import Any

import yaml

from tests.fuzz.case import Case, Place
from tests.fuzz.damage import damaged
from tests.fuzz.pristine import CPU, DATASET, SHORT
from tests.fuzz.values import as_json, mutated, strange

_RECIPES = ("baseline-tiny", "clip-reid-tiny", "pi-vl-tiny", "pcl-clip-tiny", "slicenet2")
_LEARNERS = ("coop-tiny", "coop", "zero-shot-tiny", "maple-tiny", "cocoop-tiny")
_MANIFESTS = ("folder", "market1501", "classes", "cuhk03_np", "veri776", "prid2011", "lip", "ltcc")
_DOCUMENTS = (
    "&a [*a]", "a: &a {b: *a}", "*nothing", "[" * 3000, "{a: " * 3000, "- " * 3000 + "x",
    "a: " + "9" * 5000, "a: 0x" + "f" * 5000, "a: 1" + "0" * 400 + ".0", "a: .nan\nb: .inf",
    "!!python/object/apply:os.system ['touch EXECUTED']", "a: !!python/name:os.system",
    "a: !!binary 'x'", "a: !!set {x, y}", "a: !!timestamp 2020-99-99", "a: 2020-01-01", "a: !!int x",
    "a: !!float x", "? [a, b]\n: c", "? {a: b}\n: c", "<<: {a: b}", "<<: [1, 2]", "<<: x", "a: !!omap [x]",
    "a: !unknown x", "%YAML 9.9\n---\na", "--- a\n--- b", "", "\0", "\t\t", "a: 'unclosed", "a:\tb",
    "'': ''", "null: null", "true: false", "1: 2", "a: |\n" + " x\n" * 10_000, "- a\nb: c", "\ufeffa: b",
    "a: 1:2:3", "a: 190:20:30.15", "a: 1_000", "a: 0o9", "a: 089", "a: ~", "&" * 200, "x" * 2_000_000,
)  # fmt: skip


def _yaml(rng: random.Random, value: Any) -> bytes:
    """YAML of a value, at times damaged, in another encoding or with a second key."""
    try:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    except Exception:  # noqa: BLE001 - what YAML cannot say JSON can
        text = json.dumps(value, default=str)
    way = rng.randrange(24)
    data = text.encode("utf-8", "surrogatepass")
    if way == 0:
        return text.encode("utf-16", "surrogatepass")
    if way == 1:
        return text.encode("latin-1", "replace") + b"\nx: \xe9\n"
    if way == 2:
        return b"\xef\xbb\xbf" + data
    if way == 3:
        return data + data
    if way == 4:
        return damaged(rng, data)[0]
    if way == 5:
        return _bomb(rng).encode() + data
    return data


def _bomb(rng: random.Random) -> str:
    wide, deep = rng.choice((9, 2)), rng.choice((9, 40))
    lines = [f"l0: &l0 [{', '.join(['x'] * wide)}]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * wide)}]" for n in range(1, deep)]
    return "\n".join(lines) + "\n"


def _document(rng: random.Random, place: Place, value: Any) -> tuple[bytes, str]:
    way = rng.random()
    if way < 0.15:
        text = rng.choice(_DOCUMENTS).replace("EXECUTED", str(place.executed))
        whole = rng.random() < 0.4 or not isinstance(value, dict)
        top = "" if whole else yaml.safe_dump(value, sort_keys=False)
        return f"{top}{text}\n".encode("utf-8", "surrogatepass"), ascii(text[:60])
    if way < 0.2:
        return _bomb(rng).encode(), "aliases of aliases"
    changed, about = mutated(rng, value)
    return _yaml(rng, changed), about


def recipe(rng: random.Random, place: Place) -> Case:
    """A recipe's file, as ``recipes`` and ``train`` read it."""
    from reid_train.recipe import files

    name = rng.choice(_RECIPES)
    value = files.read(name, "recipe/published", see="")
    if rng.random() < 0.3:
        value = {"base": name, "set": {"seed": 1}, "stages": value["stages"][:1]}
    data, about = _document(rng, place, value)
    path = place.given / "mine.yaml"
    path.write_bytes(data)
    lines = [("recipes", path), ("recipes", path, "--parameters")][: rng.choice((1, 1, 1, 2))]
    if rng.random() < 0.3:
        lines.append(("train", path, "--dataset", "nothing.yaml", *CPU))
    return Case(f"{name}: {about}", lines)


def learner(rng: random.Random, place: Place) -> Case:
    """A recipe of a prompt learner."""
    name = rng.choice(_LEARNERS)
    package = resources.files("reid_train") / "classify" / "published" / f"{name}.yaml"
    value = yaml.safe_load(package.read_text())
    data, about = _document(rng, place, value)
    path = place.given / "mine.yaml"
    path.write_bytes(data)
    return Case(
        f"{name}: {about}",
        [("recipes", path), ("classify", path, "--dataset", place.given / "none", *CPU)],
    )


def manifest(rng: random.Random, place: Place) -> Case:
    """A dataset's manifest, and a tree of images beside it."""
    name = rng.choice(_MANIFESTS)
    value = yaml.safe_load((resources.files("data_manifests") / f"{name}.yaml").read_text())
    data, about = _document(rng, place, value)
    path = place.given / "mine.yaml"
    path.write_bytes(data)
    root = place.pristine / "people"
    return Case(
        f"{name}: {about}",
        [
            ("datasets", path),
            ("prepare", path, "--root", root, "--size", "32x16"),
            ("train", "baseline-tiny", "--dataset", path, *SHORT, *CPU, "--epochs", "0"),
        ],
    )


def setting(rng: random.Random, place: Place) -> Case:
    """``--set KEY=VALUE``."""
    from reid_train.recipe import files

    name = rng.choice(_RECIPES)
    value = files.read(name, "recipe/published", see="")
    key = _key(rng, value)
    given = strange(rng)
    try:
        text = rng.choice((json.dumps(given), yaml.safe_dump(given).strip(), str(given)))
    except Exception:  # noqa: BLE001
        text = str(given)
    if rng.random() < 0.2:
        text = rng.choice(_DOCUMENTS).replace("EXECUTED", str(place.executed))[:100_000]
    text, key = text.replace("\0", " "), key.replace("\0", " ")
    word = f"{key}={text}" if rng.random() < 0.95 else key
    return Case(
        ascii(word[:90]),
        [("train", name, "--dataset", "nothing.yaml", "--set", word, *CPU)],
    )


def _key(rng: random.Random, value: Any) -> str:
    parts = []
    while isinstance(value, dict | list) and value and rng.random() < 0.9:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        parts.append(str(key))
        value = value[key]
    if rng.random() < 0.3:
        parts.append(rng.choice(("x", "-1", "99", "", "0", "a.b", "1e5", "\ud800", "__class__")))
    return ".".join(parts)


def label_map(rng: random.Random, place: Place) -> Case:
    """``--label-map FILE``."""
    from pipeline.labels.sets import LIP

    changed, about = mutated(rng, {name: name for name in LIP.names})
    path = place.given / "map.json"
    path.write_bytes(as_json(rng, changed))
    folder = place.pristine / "hf"
    return Case(
        about,
        [("parse", DATASET, "--model", f"hf:{folder}", "--label-map", path, *CPU)],
    )


def plugin(rng: random.Random, place: Place) -> Case:
    """A plugin's text, of which ``doctor`` reads the names and runs nothing."""
    marker = str(place.executed)
    text = (
        "from pathlib import Path\nfrom pipeline.plugins import register\n\n"
        f"Path({marker!r}).write_text('run')\n\n\n"
        "@register.loss('mine')\nclass Mine:\n    pass\n\n\n"
        f"@register.parser('own', files=('own.pth',))\ndef parser(kind, weights):\n    pass\n"
    )
    way = rng.randrange(9)
    data = text.encode()
    if way < 3:
        data, about = damaged(rng, data)
    elif way == 3:
        data, about = ("(" * 500 + ")" * 500).encode(), "500 brackets"
    elif way == 4:
        data, about = text.encode("utf-16"), "utf-16"
    elif way == 5:
        data, about = (
            b"# -*- coding: " + rng.choice((b"nothing", b"utf-7", b"rot13")) + b" -*-\n" + data,
            "coding",
        )
    elif way == 6:
        name = strange(rng)
        data = text.replace("'mine'", ascii(name)).encode()
        about = f"registers {ascii(name)[:50]}"
    elif way == 7:
        data, about = ("x = " + "-" * 5000 + "1\n").encode() + data, "5000 signs"
    else:
        data, about = data + b"\0", "a null byte"
    path = place.given / "mine.py"
    path.write_bytes(data)
    return Case(
        about, [("--plugin", path, "recipes", "baseline-tiny"), ("--plugin", path, "status")]
    )


KINDS = {
    "recipe": recipe, "learner": learner, "manifest": manifest, "setting": setting,
    "label-map": label_map, "plugin": plugin,
}  # fmt: skip
