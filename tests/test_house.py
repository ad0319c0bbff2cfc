"""The house: its rooms are those of the drawing, and imports point one way."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import PROJECT as ROOT
from tests.sources import ROOMS, imported, module_name, sources, tree

FLOOR = 12
# Rooms of reid_train from the ground up; a room imports those below it, and those beside it
# without a cycle. Files called commands.py and work.py stand above all rooms.
RANKS = (
    ("engine",),
    ("data", "models", "losses"),
    ("evaluation",),
    ("hooks",),
    ("recipe", "figures", "classify", "search", "exchange", "weights"),
)


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_import_reader_tells_modules_from_names(tmp_path: Path):
    path = tmp_path / "a.py"
    path.write_text(
        "from reid_train.engine import loop, missing\nimport reid_train.engine.task\n"
        "def f():\n    from reid_train.models.tiny import anything\n"
    )
    assert imported(path) == {
        "reid_train.engine", "reid_train.engine.loop", "reid_train.engine.task",
        "reid_train.models.tiny",
    }  # fmt: skip


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_one_way(path: Path):
    name, names = module_name(path), imported(path)
    rooms = {room_of(other) for other in names}
    if room_of(name) == "pipeline":
        assert rooms.isdisjoint({"reid_train", "parsing_models", "cli"})
    elif room_of(name) == "parsing_models":
        others = {other for other in names if room_of(other) == "reid_train"}
        assert {inner_room(other) for other in others} <= {"engine"} and "cli" not in rooms
    elif room_of(name) == "reid_train" and path.name != "__main__.py":
        assert rooms.isdisjoint({"parsing_models", "cli"})
        inner = {inner_room(other) for other in names if room_of(other) == "reid_train"} - {""}
        assert [other for other in inner if rank(other) > rank_of_file(path)] == []
    assert rooms.isdisjoint({"tests", "benchmarks"})


def inner_room(name: str) -> str:
    """The room of a module inside its house: ``models`` of ``reid_train.models.clip.text``."""
    return name.split(".")[1] if "." in name else ""


def rank(room: str) -> int:
    return next(number for number, rooms in enumerate(RANKS) if room in rooms)


def rank_of_file(path: Path) -> int:
    room = inner_room(module_name(path))
    return len(RANKS) if path.name in ("commands.py", "work.py") or not room else rank(room)


def test_rooms_of_one_rank_have_no_cycle():
    for rooms in RANKS:
        arrows = {room: set() for room in rooms}
        for room in rooms:
            for path in (ROOT / "reid_train" / room).rglob("*.py"):
                if path.name not in ("commands.py", "work.py"):
                    others = {n for n in imported(path) if room_of(n) == "reid_train"}
                    arrows[room] |= {inner_room(other) for other in others} & set(rooms) - {room}
        order = TopologicalSorter(arrows)
        order.prepare()  # raises CycleError, which names the rooms


@pytest.mark.parametrize("house", ROOMS)
def test_a_floor_has_few_entries(house: str):
    apart = {"__init__.py", "__main__.py", "__pycache__"}
    entries = {path.name for path in (ROOT / house).iterdir()} - apart
    assert len(entries) <= FLOOR, sorted(entries)


def words(stem: str) -> list[str]:
    """Words of a file's name; one and many are one word."""
    return [word.removesuffix("s") for word in stem.split("_")]


@pytest.mark.parametrize("house", ROOMS)
def test_names_repeat_neither_their_folder_nor_each_other(house: str):
    """A prefix that two files share is a folder; a folder's name stands in none of its files'."""
    for folder in {path.parent for path in (ROOT / house).rglob("*.py")}:
        stems = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
        first = [words(stem)[0] for stem in stems]
        shared = [stem for stem, word in zip(stems, first, strict=True) if first.count(word) > 1]
        assert shared == [], folder
        own = words(folder.name)
        assert [stem for stem in stems if set(own) <= set(words(stem))] == [], folder


def test_worker_names_lead_to_functions():
    """Steps and lazy commands name their functions in strings; those that exist must resolve."""
    pattern = re.compile(r"""["']((?:pipeline|reid_train|parsing_models)[\w.]*):(\w+)["']""")
    found = {match for path in sources() for match in pattern.findall(path.read_text())}
    assert ("reid_train.recipe.work", "model") in found
    for module, function in sorted(found):
        place = ROOT.joinpath(*module.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        tops = {
            name
            for node in tree(file).body
            for name in (
                [node.name]
                if isinstance(node, ast.FunctionDef)
                else [alias.asname or alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert function in tops, f"{module}:{function}"


def drawn(text: str) -> dict[str, set[str]]:
    """The drawing "The rooms" of docs/architecture.md: folder -> what stands in it. A line is a
    name indented by two spaces a level, then two spaces at least and its words; names that share a
    line are separated by one space.
    """
    block = text.split("## The rooms", 1)[1].split("\n\n", 2)[1]
    found: dict[str, set[str]] = {}
    place: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip()) - 4) // 2
        names = re.split(r" {2,}", line.strip())[0].split()
        place[depth:] = [names[0].rstrip("/")]
        for name in names:
            found.setdefault("/".join(place[:depth]), set()).add(name.rstrip("/"))
    return found


def test_the_drawing_is_the_tree():
    """Every room and file is in the drawing, and nothing else."""
    pictured = drawn((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    for house in ROOMS:
        for folder in [ROOT / house, *(ROOT / house).rglob("*/")]:
            place = folder.relative_to(ROOT).as_posix()
            real = {
                entry.name.removesuffix(".py")
                for entry in folder.iterdir()
                if (entry.suffix == ".py" or (entry.is_dir() and any(entry.iterdir())))
                and entry.name not in ("__init__.py", "__main__.py", "__pycache__")
            }
            if folder.name != "__pycache__":
                assert pictured.get(place, set()) == real, place
