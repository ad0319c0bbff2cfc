"""What can be named: the package's own and the plugins' under one table a kind; their digests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.plugins import registry
from pipeline.plugins.kinds import resolve
from pipeline.plugins.registry import Registered, plugins, provider, registered
from pipeline.plugins.source import Name
from pipeline.terminal.errors import ReidpipeError, nearest


class Door(Mapping[str, Any]):
    """Everything of one kind that can be named: the package's own, then the plugins'.

    ``own`` is name -> ``"module:object"``, or the object itself where that is plain data. Names are
    listed and asked for without an import; ``door[name]`` imports. adapt: what becomes of something
    registered (``Registered``, name) so that it has the shape of the package's own. families:
    prefix -> ``"module:function"`` of names that another library knows and that are too many to
    list: the function makes of the whole name what ``own`` has for one.
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, Any],
        adapt: Callable[[Registered, str], Any] | None = None,
        families: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.own, self.adapt = kind, dict(own), adapt
        self.families = dict(families or {})

    def __getitem__(self, name: str) -> Any:
        if name in self.own:
            value = self.own[name]
            return resolve(value) if isinstance(value, str) else value
        if (prefix := self.family(name)) is not None:
            return resolve(self.families[prefix])(name)
        found = registered(self.kind, name)
        if found is None:
            raise KeyError(name)
        return self.adapt(found, name) if self.adapt else found.thing

    def family(self, name: str) -> str | None:
        """The prefix of the family that ``name`` is of, if it is of one. No import: whether its
        library has the rest of the name turns out when something is made.
        """
        found = (p for p in self.families if name.startswith(p) and len(name) > len(p))
        return next(found, None)

    def owns(self, name: str) -> bool:
        """Whether ``name`` is the package's own, listed or of a family."""
        return name in self.own or self.family(name) is not None

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return self.owns(name) or provider(self.kind, name) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        live = [name for kind, name in registry.given_names() if kind == self.kind]
        texts = [name for p in plugins() for kind, name in p.names if kind == self.kind]
        yield from dict.fromkeys([*texts, *live])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def check(self, name: str, path: str) -> None:
        """Raise ReidpipeError unless ``name`` is known; ``path``: where it stands, for the
        message.
        """
        if name not in self:
            listed = [*self, *(f"{prefix}NAME" for prefix in self.families)]
            raise ReidpipeError(
                f"found {self.kind} '{name}' for {path}{nearest(name, listed)}; expected one of "
                f"{', '.join(listed)}, or one of a plugin; type reidpipe --plugin FILE.py for that"
            )


def digests(used: Iterable[Name]) -> dict[str, str]:
    """What plugins' names enter the key of a step with: ``"kind name"`` -> digest of the plugin."""
    found = {(kind, name): provider(kind, name) for kind, name in used if name}
    own = {key: plugin for key, plugin in found.items() if plugin is not None}
    return {f"{kind} {name}": plugin.digest for (kind, name), plugin in sorted(own.items())}


def described(weights: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The plugins behind what ``digests`` gave, for ``model.json``: file or module name -> digest
    and names.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry, digest in weights.items():
        kind, _, name = entry.partition(" ")
        plugin = provider(kind, name) if name else None
        if plugin is not None:
            short = Path(plugin.reference).name
            found.setdefault(short, {"sha256": digest, "names": []})["names"].append(entry)
    return found


def require(weights: Mapping[str, str], what: str) -> None:
    """Raise ReidpipeError unless the plugins behind ``weights`` are given, with the same text.
    what: who needs them, for the message.
    """
    for entry, digest in weights.items():
        kind, _, name = entry.partition(" ")
        if not name:
            continue
        plugin = provider(kind, name)
        if plugin is None:
            raise ReidpipeError(
                f"found {what}, which needs {kind} '{name}' of a plugin that was not given; "
                f"expected the one with SHA-256 {digest[:12]}...; type reidpipe --plugin FILE.py"
            )
        if plugin.digest != digest:
            raise ReidpipeError(
                f"found {what}, made with {kind} '{name}' of a plugin with SHA-256 "
                f"{digest[:12]}..., and {plugin.digest[:12]}... in {plugin.reference}; expected "
                "the same text; give that one, or train again"
            )
