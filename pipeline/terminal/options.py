"""Options that a user gives as ``NAME=VALUE``, and what values each may take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import click

from pipeline.terminal.errors import ReidpipeError, nearest


@dataclass(frozen=True)
class Option:
    """wanted: what the value must be, in words; fits: whether a value is that."""

    wanted: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(value: Any, count: int, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) == count and all(map(fits, value))


WHOLE = Option("a whole number", _whole)
NUMBER = Option("a number", _number)
POSITIVE = Option("a positive whole number", lambda value: _whole(value) and value > 0)
FLAG = Option("true or false", lambda value: isinstance(value, bool))
ANYTHING = Option("a value", lambda _: True)
TEXT = Option("a word", lambda value: isinstance(value, str))
RGB = Option("three numbers [R,G,B]", lambda value: _listed(value, 3, _number))
SIZE = Option("[H,W]", lambda value: _listed(value, 2, POSITIVE.fits))


class _Seconds(click.FloatRange):
    """Seconds of a clock; "nan" passes the ends of any range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        seconds = super().convert(value, param, ctx)
        if not isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


COUNT = click.IntRange(1)
# Between two looks at what is being made.
EVERY = _Seconds(0.1, 3600)


def check_given(parameters: Iterable[click.Parameter], values: Mapping[str, Any]) -> None:
    """Raise ReidpipeError for an option or argument that was typed empty, as a shell makes of a
    variable that is not set: it would mean the default.
    """
    for parameter in parameters:
        if "" not in _words(values.get(parameter.name or "")):
            continue
        if isinstance(parameter, click.Option):
            name = max(parameter.opts, key=len)
            raise ReidpipeError(
                f"found {name} without a value; expected one; type {name} VALUE, or leave it out"
            )
        name = (parameter.metavar or parameter.name or "").upper()
        raise ReidpipeError(f"found an empty {name}; expected a value; type one")


def _words(value: Any) -> list[Any]:
    """Of an option that may be typed several times, and has several words."""
    if not isinstance(value, tuple):
        return [value]
    return [word for part in value for word in _words(part)]


def check_device(name: str) -> str:
    """``name`` if it is ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``, whatever this machine has.
    Raises ReidpipeError for anything else.

    It stands here because a command line is checked without torch;
    ``reid_train.engine.runtime`` finds the device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", name):
        raise ReidpipeError(
            f"found device '{name}'; expected auto, cpu, cuda or cuda:<n>; type --device auto"
        )
    return name


def check_option(name: str, value: Any, known: Mapping[str, Option], *, of: str) -> None:
    """Raise ReidpipeError unless ``known`` has the option and the value fits. of: what the option
    belongs to, for the message."""
    if name not in known:
        raise ReidpipeError(
            f"found option '{name}' for {of}{nearest(name, known)}; expected "
            f"{', '.join(known)}; leave it out"
        )
    if not known[name].fits(value):
        raise ReidpipeError(
            f"found {name}={value!r} for {of}; expected {known[name].wanted}; "
            f"type {name}=VALUE with one"
        )


def read_option(text: str, known: Mapping[str, Option], *, of: str) -> tuple[str, Any]:
    """``NAME=VALUE``, the value in YAML -> name and checked value. Raises ReidpipeError."""
    import yaml

    from pipeline.terminal.yaml_text import read_yaml

    name, separator, written = text.partition("=")
    if not separator or not name:
        raise ReidpipeError(
            f"found option '{text}' for {of}; expected NAME=VALUE with one of {', '.join(known)}; "
            "type it so"
        )
    try:
        value = read_yaml(written)
    except yaml.YAMLError:
        value = written  # as text, which the check judges
    check_option(name, value, known, of=of)
    return name, value
