"""What a shell makes of a variable that is not set is told, and never means the default."""

from __future__ import annotations

import click
import pytest

import cli
from tests.cli.conftest import Console
from tests.cli.test_help import commands

WORDS = [words for words in commands(cli.main, ()) if words]


def command_of(words: tuple[str, ...]) -> click.Command:
    command: click.Command = cli.main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


def needed(command: click.Command, kind: type[click.Parameter]) -> list[str]:
    """What must be typed to ``command`` before anything else is looked at."""
    found = []
    for each in command.params:
        if isinstance(each, kind) and each.required:
            found += [each.opts[0]] * issubclass(kind, click.Option)
            found.append(str(each.type.choices[0]) if isinstance(each.type, click.Choice) else "x")
    return found


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_an_empty_word_is_told(console: Console, words: tuple[str, ...]):
    command = command_of(words)
    arguments, options = (needed(command, kind) for kind in (click.Argument, click.Option))
    for place in range(len(arguments)):
        typed = [*arguments[:place], "", *arguments[place + 1 :]]
        console.mistake(*words, *typed, *options)
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag and not option.count:
            name = max(option.opts, key=len)
            empty = [""] * option.nargs
            line = console.mistake(*words, *arguments, *options, name, *empty)
            assert name in line or "the path" in line, line
            assert not console.root.exists(), name
