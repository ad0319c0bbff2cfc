"""Things that a recipe names, made: looked up, their options checked, drawn from their own seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from pipeline.plugins import Door
from pipeline.plugins.options import accepted, check_options, required
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.runtime import derive_seed


def require(name: str, known: Iterable[str], path: str) -> None:
    """Raise ReidpipeError, naming the nearest, unless ``name`` is among ``known``."""
    known = list(known)
    if name not in known:
        raise ReidpipeError(
            f"found '{name}' for {path}{nearest(name, known)}; expected one of "
            f"{', '.join(known)}; type another"
        )


def make(
    door: Door,
    name: str,
    options: Mapping[str, Any],
    path: str,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """``door[name]`` called with ``options``, and with those of ``given`` that its signature asks
    for. path: where the recipe says so, for messages.

    Raises ReidpipeError for an unknown name, an unknown option, one that is given already or is
    lacking, or values that it refuses.
    """
    require(name, door, path)
    factory = door[name]
    check_options(factory, options, path)
    known = accepted(factory)
    fitting = {key: value for key, value in (given or {}).items() if known is None or key in known}
    if twice := [option for option in options if option in fitting]:
        raise ReidpipeError(
            f"found option '{twice[0]}' for {path}, which follows from the rest of the recipe and "
            "its dataset; expected options that do not; leave it out"
        )
    if lacking := [name for name in required(factory) if name not in {**fitting, **options}]:
        raise ReidpipeError(
            f"found no option '{lacking[0]}' for {path}; expected one, as nothing else of the "
            f"recipe says it; add options: {{{lacking[0]}: VALUE}}"
        )
    try:
        return factory(**{**fitting, **options})
    except ValueError as error:
        raise ReidpipeError(f"found wrong options for {path}: {error}") from error


def check_fields(thing: Any, fields: Iterable[str], what: str) -> None:
    """Raise ReidpipeError when something that was made lacks what others ask of it."""
    lacking = [name for name in fields if not hasattr(thing, name)]
    if lacking:
        raise ReidpipeError(
            f"found {what} without {', '.join(lacking)}; expected what the package's own of that "
            "kind have; add it to the plugin"
        )


def fresh(seed: int, make: Callable[[], nn.Module], *purpose: str) -> Any:
    """``make()`` with torch's generator seeded for initial weights of ``purpose``; restored
    afterwards. What has a name draws from a seed of that name, whatever else is drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init", *purpose))
        return make()
