"""The plugins of this process, and what they registered."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from pipeline.plugins.kinds import KINDS, resolve
from pipeline.plugins.source import Name, Plugin
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.stopping import untouched

VARIABLE = "REIDPIPE_PLUGINS"
GROUP = "reidpipe.plugins"
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Registered:
    """What a plugin registered: the thing itself, and what it said about it beside its name."""

    thing: Any
    about: Mapping[str, Any]
    plugin: Plugin


@dataclass
class _Given:
    """The plugins of this process. They are as global as the modules they become."""

    plugins: list[Plugin] | None = None
    installed: list[Plugin] | None = None
    registered: dict[Name, Registered] = field(default_factory=dict)
    importing: list[Plugin] = field(default_factory=list)
    # What each registered when it was imported, which happens once in a process.
    imported: dict[Plugin, dict[Name, Registered]] = field(default_factory=dict)


_given = _Given()


def use(references: Iterable[str]) -> None:
    """Make these the plugins of this process and, through the environment, of those it starts.
    Those installed come of themselves. Raises ReidpipeError for one that cannot be read or that
    registers a name which is taken.
    """
    plugins = _once(map(Plugin.read, references))
    _check_names(plugins)
    _given.plugins, _given.installed = plugins, None
    _given.registered = {}
    if plugins:
        os.environ[VARIABLE] = os.pathsep.join(plugin.reference for plugin in plugins)
    else:
        os.environ.pop(VARIABLE, None)


def from_environment() -> list[str]:
    """What ``REIDPIPE_PLUGINS`` names."""
    return [text for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]


def given() -> list[Plugin]:
    """The plugins that the user gave. A process that was started by another has them from the
    environment.
    """
    if _given.plugins is None:
        use(from_environment())
    assert _given.plugins is not None
    return _given.plugins


def ensure(references: Sequence[str]) -> None:
    """``use`` these unless they are in use."""
    if [plugin.reference for plugin in given()] != list(references):
        use(references)


def plugins() -> list[Plugin]:
    """The plugins of this process: those given, then those installed."""
    own = given()
    if _given.installed is None:
        found = entry_points(group=GROUP)
        read = (Plugin.read(point.value.partition(":")[0]) for point in found)
        _given.installed = _once([*own, *read])[len(own) :]
        _check_names([*own, *_given.installed])
    return [*own, *_given.installed]


def _once(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Each as it was first named: one that is installed may be given too."""
    kept: list[Plugin] = []
    for plugin in plugins:
        if not any(plugin.is_same(other) for other in kept):
            kept.append(plugin)
    return kept


def _check_names(given: list[Plugin]) -> None:
    taken: dict[Name, Plugin] = {}
    for plugin in given:
        for (kind, name), line in plugin.names.items():
            other = taken.setdefault((kind, name), plugin)
            by = None if other.is_beside(plugin) else f"plugin {other.reference}"
            by = "the package" if resolve(KINDS[kind]).owns(name) else by
            if by:
                raise ReidpipeError(
                    f"found {kind} '{name}' in plugin {plugin.reference}, line {line}, a name that "
                    f"{by} has; expected one of its own; rename it"
                )


def provider(kind: str, name: str) -> Plugin | None:
    """The plugin that registers a name, if one does."""
    if (found := _given.registered.get((kind, name))) is not None:
        return found.plugin
    for plugin in plugins():
        if (kind, name) in plugin.names:
            return plugin
        if plugin.computes_names or not plugin.names:
            # What it registers shows when it is imported, and so does why it registers nothing.
            _import(plugin)
            if (found := _given.registered.get((kind, name))) is not None:
                return found.plugin
    return None


def registered(kind: str, name: str) -> Registered | None:
    """What a plugin registered under a name; the plugin is imported now."""
    plugin = provider(kind, name)
    if plugin is None:
        return None
    for part in (plugin, *(other for other in plugins() if other.is_beside(plugin))):
        _import(part)
        if (found := _given.registered.get((kind, name))) is not None:
            return found
    raise ReidpipeError(
        f"found plugin {plugin.reference} that registers no {kind} '{name}' when it is "
        "imported; expected what its text says; mend it"
    )


def load_given() -> None:
    """Import every plugin the user gave, used or not: a broken one is told."""
    for plugin in given():
        _import(plugin)


def _import(plugin: Plugin) -> None:
    if plugin in _given.imported:
        _given.registered |= _given.imported[plugin]
        return
    _given.importing.append(plugin)
    try:
        if any(other.module == plugin.module for other in _given.imported):
            # Its text has changed since it was imported here.
            top = plugin.module.partition(".")[0]
            for name in [name for name in sys.modules if name.partition(".")[0] == top]:
                del sys.modules[name]
        with untouched():
            _execute(plugin)
    except ReidpipeError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise ReidpipeError(
            f"found plugin {plugin.reference}, which cannot be imported "
            f"({type(error).__name__}: {reason}{_line_of(error, plugin)}); expected a module that "
            "registers names; mend it"
        ) from error
    finally:
        _given.importing.pop()
    own = {name: found for name, found in _given.registered.items() if found.plugin == plugin}
    _given.imported[plugin] = own


def _execute(plugin: Plugin) -> None:
    if not plugin.reference.endswith(".py"):
        importlib.import_module(plugin.module)
        return
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.sources[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[plugin.module] = module
    spec.loader.exec_module(module)


def _line_of(error: BaseException, plugin: Plugin) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) in plugin.sources:
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def given_names() -> list[Name]:
    """What has been registered by now."""
    return list(_given.registered)


class _Register:
    """``register.KIND(NAME)``: a decorator that gives what it decorates a name of that kind."""

    def __getattr__(self, kind: str) -> Callable[..., Callable[[Thing], Thing]]:
        if kind not in KINDS:
            raise AttributeError(
                f"register has no '{kind}'{nearest(kind, KINDS)}; it has {', '.join(KINDS)}"
            )

        def named(name: str, **about: Any) -> Callable[[Thing], Thing]:
            def decorate(thing: Thing) -> Thing:
                _register(kind, name, thing, about)
                return thing

            return decorate

        return named


def _register(kind: str, name: str, thing: Any, about: Mapping[str, Any]) -> None:
    if _given.importing:
        plugin = _given.importing[-1]
    else:  # imported by somebody's own program: then its file is the plugin
        file = getattr(sys.modules.get(thing.__module__), "__file__", None)
        if file is None:
            raise ReidpipeError(
                f"found {kind} '{name}' registered outside a file; expected a plugin whose text "
                "can be read; write it into one"
            )
        plugin = Plugin.read(file)
    other = _given.registered.get((kind, name))
    if resolve(KINDS[kind]).owns(name) or (other is not None and other.plugin != plugin):
        by = f"plugin {other.plugin.reference}" if other else "the package"
        raise ReidpipeError(
            f"found {kind} '{name}' in plugin {plugin.reference}, a name that {by} has; expected "
            "one of its own; rename it"
        )
    _given.registered[kind, name] = Registered(thing, about, plugin)


register = _Register()
