"""Plugins as text: which files, which names they register, their digest. Imports none of them."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.plugins.kinds import KINDS
from pipeline.terminal.errors import ReidpipeError

PACKAGE = "pipeline.plugins"
Name = tuple[str, str]  # kind, name


@dataclass(frozen=True)
class Plugin:
    """Source text that registers names.

    reference: what a user types to name it. module: what it is imported as. sources: its files, of
    a module all ``.py`` files of its package. digest: SHA-256 of them.
    """

    reference: str
    module: str
    sources: tuple[Path, ...]
    digest: str

    @classmethod
    def read(cls, reference: str) -> Plugin:
        """A plugin by file (``.py``) or module name; nothing of it is imported. Raises
        ReidpipeError when there is none, or when it is no Python.
        """
        if reference.endswith(".py") or os.sep in reference:
            path = Path(reference).expanduser().absolute()
            if not path.is_file():
                raise ReidpipeError(
                    f"found no plugin {path}; expected a Python file; type --plugin FILE.py"
                )
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            plugin = cls(str(path), f"reidpipe_plugin_{digest[:16]}", (path,), digest)
        else:
            files = _files_of(reference)
            content = hashlib.sha256()
            for path in files:
                place = os.fsencode(path.relative_to(files[0].parent))
                content.update(place + b"\0" + path.read_bytes() + b"\0")
            plugin = cls(reference, reference, files, content.hexdigest())
        _ = plugin.names
        return plugin

    def is_same(self, other: Plugin) -> bool:
        """Whether both are one under two references: a module of one file by its name and by its
        file, a file by two paths. Modules of one package are two, each with what it imports.
        """
        one = len(self.sources) == 1 or self.module == other.module
        return one and self.is_beside(other)

    def is_beside(self, other: Plugin) -> bool:
        """Whether both are of the same files."""
        return [p.resolve() for p in self.sources] == [p.resolve() for p in other.sources]

    @cached_property
    def _trees(self) -> list[ast.Module]:
        trees = []
        for path in self.sources:
            try:
                trees.append(ast.parse(path.read_bytes(), str(path)))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise ReidpipeError(
                    f"found plugin {path}, which is no Python ({error}); expected a module that "
                    "registers names; mend it"
                ) from error
        return trees

    @cached_property
    def names(self) -> dict[Name, int]:
        """What the text registers under literal names, and in which line."""
        return {name: line for tree in self._trees for name, line in _registrations(tree) if name}

    @cached_property
    def computes_names(self) -> bool:
        """Whether it registers names that its text does not spell out."""
        return any(not name for tree in self._trees for name, _ in _registrations(tree))


def _files_of(module: str) -> tuple[Path, ...]:
    top, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(top)  # finds, and imports nothing: there is no dot in it
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = tuple(path for folder in folders for path in sorted(Path(folder).rglob("*.py")))
    if not folders and spec is not None and spec.origin and spec.origin.endswith(".py"):
        files = (Path(spec.origin),)
    if not files or (rest and not folders):
        raise ReidpipeError(
            f"found no module '{module}' for --plugin; expected a Python file or a module that can "
            "be imported; type --plugin FILE.py"
        )
    return files


def _registrations(tree: ast.Module) -> Iterator[tuple[Name | None, int]]:
    """Calls of ``register.KIND("NAME")``; None for a name that is no literal."""
    called = {"register"} | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE
        for alias in node.names
        if alias.name == "register" and alias.asname
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in KINDS and ast.unparse(node.func.value).split(".")[-1] in called:
            first = node.args[0] if node.args else None
            literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield (node.func.attr, first.value) if literal else None, node.lineno  # type: ignore
