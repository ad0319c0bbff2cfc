"""Options of what a door gives, looked at before anything is made of them: names, then values."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pipeline.terminal.errors import ReidpipeError, nearest


def accepted(factory: Callable[..., Any]) -> list[str] | None:
    """Names of a factory's arguments; None when it takes any and refuses unknown ones itself."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]


def required(factory: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a factory cannot do without."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]


def check_options(factory: Callable[..., Any], options: Mapping[str, Any], path: str) -> None:
    """Raise ReidpipeError for an option that a factory does not take, naming the nearest, and for
    a value of another type than its signature asks for. path: where they are said, for messages.
    """
    _check_names(factory, options, path)
    check_values(factory, options, path)


def _check_names(factory: Callable[..., Any], options: Iterable[str], path: str) -> None:
    known = accepted(factory)
    for option in options:
        if known is not None and option not in known:
            raise ReidpipeError(
                f"found option '{option}' for {path}{nearest(option, known)}; expected one of "
                f"{', '.join(known)}; leave it out or type another"
            )


def check_values(factory: Callable[..., Any], options: Mapping[str, Any], path: str) -> None:
    """Raise ReidpipeError for a value, as YAML or JSON gives it, of another type than a factory's
    signature asks for: text would pass for a true ``bias``, and fail as a margin when images have
    been read.

    A number without a fraction is a float too and a list a tuple; nothing else is converted.
    Arguments without a type, or of one that no file can hold, are left to the factory.
    """
    wanted = _types(factory)
    for option, value in options.items():
        if option in wanted and not _is_a(value, wanted[option]):
            raise ReidpipeError(
                f"found {option}={value!r} for {path}; expected "
                f"{inspect.formatannotation(wanted[option])}; type {option}=VALUE with one"
            )


def _types(factory: Callable[..., Any]) -> dict[str, Any]:
    """Types of a factory's arguments by name, as far as they are written and can be found."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (AttributeError, NameError, SyntaxError, TypeError):
        return {}


def _is_a(value: Any, wanted: Any) -> bool:
    try:
        text = json.dumps(value)
        TypeAdapter(wanted).validate_json(text, strict=True)
    except ValidationError:
        return False
    except (TypeError, PydanticUserError):
        return True
    return True
