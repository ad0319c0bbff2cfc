"""Reference pages, written from what the commands themselves say: no second copy is kept."""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import click
from click.testing import CliRunner

import cli

PROGRAM = "reidpipe"
EXAMPLE = re.compile(r"(?:Example: +)?reidpipe ")
POLICIES = {
    "direct": "fetched by `reidpipe prepare`",
    "manual": "fetched by you, then `--root` or `--archive`",
    "request": "on request to its authors, then `--root` or `--archive`",
    "never": "withdrawn by its publisher: only a copy you lawfully hold, shown in no picture",
}


def commands_page() -> str:
    """Every command: usage, what its help says, arguments and options with their defaults."""
    context = click.Context(cli.main, info_name=PROGRAM, **cli.main.context_settings)
    parts = ["# Commands", "What `reidpipe COMMAND -h` prints, on one page.", *_command(context)]
    for name in cli.main.list_commands(context):
        parts += _below(context, name)
    return "\n\n".join(parts) + "\n"


def _below(parent: click.Context, name: str) -> Iterator[str]:
    """A command, and those below it."""
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None, name
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    yield from _command(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _below(context, inner)


def _command(context: click.Context) -> Iterator[str]:
    words = context.command_path.split()
    title = " ".join(words[1:]) or PROGRAM
    yield f"## {title} {{ #{'-'.join(words[1:]) or PROGRAM} }}"
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield from _told(inspect.cleandoc(context.command.help or ""))
    records = [_record(option, context) for option in context.command.get_params(context)]
    yield "\n".join(f"- `{found[0]}`: {_plain(found[1])}" for found in records if found)


def _told(text: str) -> Iterator[str]:
    """The paragraphs of a help text; its examples, and what click keeps line by line, as blocks."""
    for paragraph in re.split(r"\n\s*\n", text):
        kept = paragraph.lstrip().startswith("\b")
        lines = [line.strip() for line in paragraph.replace("\b", "").splitlines() if line.strip()]
        if not kept:
            # An example may begin within a line and go on in the next.
            lines = re.split(r" (?=Example: )", " ".join(lines))
        for typed, found in groupby(lines, lambda line: bool(EXAMPLE.match(line))):
            if typed:
                examples = "\n".join(EXAMPLE.sub(f"{PROGRAM} ", line) for line in found)
                yield f"```shell\n{examples}\n```"
            else:
                yield _plain("\n".join(found))


def _record(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    if isinstance(parameter, click.Option):
        return parameter.get_help_record(context)
    return None


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return re.sub(r"([*_<>\[\]|\\])", r"\\\1", text)


def _printed(*words: str) -> Any:
    """What a command prints with ``--json``."""
    result = CliRunner().invoke(cli.main, [*words, "--json"], prog_name=PROGRAM)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def datasets_page() -> str:
    """Every dataset: where its images are from, licence, citation, protocols, what is counted."""
    parts = ["# Datasets", "What `reidpipe datasets ID` prints, of every dataset."]
    for found in _printed("datasets"):
        name = found["id"] + (f":{found['variant']}" if found["variant"] else "")
        parts.append(f"## {name}")
        parts.append(
            f"{_plain(found['title'])}, {found['year']}. Images: {POLICIES[found['policy']]}."
        )
        facts = [("Licence", found["licence"]), ("Note", found["notice"])]
        facts += [("Cite", text) for text in found["citation"]]
        facts += [("Variants", ", ".join(f"{found['id']}:{v}" for v in found["variants"]))]
        lines = [f"- {title}: {_plain(text)}" for title, text in facts if text]
        lines += [
            f"- Protocol `{protocol['name']}` (exclude {protocol['exclude']})"
            + (f": {_plain(protocol['note'])}" if protocol["note"] else "")
            for protocol in found["protocols"]
        ]
        if found["homepage"] and found["homepage"].startswith("https://"):
            lines.append(f"- [Home page]({found['homepage']})")
        parts.append("\n".join(lines))
        if found["counts"]:
            parts.append(_table(("subset", "ids", "images", "cameras"), _counted(found["counts"])))
    return "\n\n".join(parts) + "\n"


def _counted(counts: dict[str, Any]) -> Iterator[list[str]]:
    for split, count in counts.items():
        numbers = [count.get(what) for what in ("ids", "images", "cameras")]
        yield [split, *(" or ".join(map(str, n["one_of"])) if n else "" for n in numbers)]


def recipes_page() -> str:
    """Every recipe: what it is, its source, what it does otherwise, the published numbers."""
    parts = [
        "# Recipes",
        "What `reidpipe recipes` prints; `reidpipe recipes NAME` shows one in full, ready to copy.",
    ]
    for row in _printed("recipes"):
        found = _printed("recipes", row["recipe"])
        parts.append(f"## {row['recipe']}")
        parts.append(
            f"{_plain(found['summary'])}. Input {row['input']}; stages (epochs): {row['stages']}."
        )
        lines = [f"- Source: {_plain(text)}" for text in found.get("citation", ())]
        lines += [f"- Departs: {_plain(text)}" for text in found.get("deviations", ())]
        lines += [f"- Published: {_plain(_said(entry))}" for entry in found.get("expected", ())]
        if lines:
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _said(entry: Any) -> str:
    """A published number with all that is said of it."""
    if isinstance(entry, dict):
        return ", ".join(f"{name} {_said(value)}" for name, value in entry.items() if value)
    return html.unescape(str(entry))


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(columns)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
