"""``reidpipe watch``: what is training, and its curves, in the terminal. Imports nothing heavy."""

from __future__ import annotations

import shutil
import sys

import click

from pipeline.artifacts.running import looks
from pipeline.terminal.commandline import CONTEXT, Terminal, json_option
from pipeline.terminal.options import EVERY

CLEAR = "\x1b[H\x1b[2J"


@click.command(context_settings=CONTEXT)
@click.argument("run", required=False)
@click.option("--once", is_flag=True, help="Print one picture and leave.")
@click.option(
    "--every",
    type=EVERY,
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@json_option
def watch(terminal: Terminal, *, run: str | None, once: bool, every: float) -> None:
    """What is training, its losses and validations as curves, and the time left.

    RUN is a run, its recipe or a key, by their beginnings; without it all that trains, else what
    trained last. Follows until that ends or Ctrl-C; where stdout is no terminal one picture.

    \b
    Example: reidpipe watch
             reidpipe watch pi-vl-tiny --once
    """
    from reid_train.engine.watched import Watch

    seen = Watch(terminal.workspace, run)
    seen.look()
    if once or terminal.as_json or not sys.stdout.isatty():
        _print(terminal, seen)
        terminal.result(
            {
                "trainings": [training.plain() for training in seen.shown.values()],
                "making": [{"step": made.step, "key": made.key} for made in seen.making],
            }
        )
        return
    try:
        _follow(terminal, seen, every)
    except KeyboardInterrupt:
        terminal.say("")  # what is watched goes on


def _follow(terminal, seen, every: float) -> None:
    def running() -> bool:
        seen.look()
        return seen.running

    before = ""
    for _ in looks(running, every):
        size = shutil.get_terminal_size()
        now = "\n".join(seen.picture(size.columns, size.lines))
        if now != before:
            click.echo(CLEAR, nl=False)
            terminal.say(now)
        before = now


def _print(terminal, seen) -> None:
    size = shutil.get_terminal_size()
    for line in seen.picture(size.columns, size.lines):
        terminal.say(line)
