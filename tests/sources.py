"""The project's source files, read for tests of their text."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.conftest import PROJECT as ROOT

ROOMS = ("pipeline", "parsing_models", "reid_train")


def sources() -> list[Path]:
    """Every Python file of the package."""
    return [
        ROOT / "cli.py",
        *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))),
    ]


def own_files() -> list[Path]:
    """Every Python file of the project."""
    folders = ("tests", "benchmarks", "docs")
    return [*sources(), *(path for name in folders for path in sorted((ROOT / name).rglob("*.py")))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, at its top or in a function; the same name for
    ``import a.b``, ``from a.b import x`` and ``from a import b``.
    """
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if is_module(name)}
            names |= modules or {node.module}
            if modules != inner:
                names.add(node.module)
    # A worker or a lazy command is named in a string; those are the graph's and cli's own arrows.
    return names


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
