"""How commands behave: loaded when called, mistakes told in one line, ``--json`` everywhere."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import click

from pipeline.artifacts import graph
from pipeline.artifacts.executors.threads import cores_allowed
from pipeline.artifacts.graph import Outcome, Unfinished
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import DEFAULT_ROOT, ROOT_VARIABLE, Execution, Workspace
from pipeline.artifacts.torchrun import rank
from pipeline.terminal.clusters import asked, cluster_options
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.events import Events
from pipeline.terminal.machine import of_the_machine
from pipeline.terminal.options import check_device, check_given
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.printable import PrintableFormatter, one_line, printable
from pipeline.terminal.publishing import FORMATS, Table
from pipeline.terminal.stopping import LINE, Listening, exit_code
from pipeline.terminal.watching import Watching

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
MISTAKE = 2
_TABLE = f"{__name__}.table"
_JOBS = f"{__name__}.jobs"
WORKSPACE = click.option(
    "--workspace",
    envvar=ROOT_VARIABLE,
    type=TypedPath(file_okay=False),
    default=DEFAULT_ROOT,
    show_default=f"./{DEFAULT_ROOT}",
    help=f"Folder for artifacts, runs, weights and reports (or {ROOT_VARIABLE}).",
)
PLUGIN = click.option(
    "--plugin",
    "given",
    multiple=True,
    metavar="FILE.py|MODULE",
    help="Code that adds losses, trunks, parsers, ... (or REIDPIPE_PLUGINS, joined by a colon).",
)
VERBOSE = click.option("-v", "verbose", is_flag=True, help="A line per training step on stderr.")
QUIET = click.option(
    "-q", "quiet", is_flag=True, help="No progress on stderr; results, notices and errors stay."
)
STRICT = click.option(
    "--strict",
    is_flag=True,
    help="Look at every byte of what is reused, and of the images it names, before it is used.",
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=lambda _ctx, _param, name: check_device(name),
    help="auto, cpu, cuda or cuda:<n>.",
)
TABLE = click.option(
    "--table",
    type=click.Choice(tuple(FORMATS)),
    expose_value=False,
    callback=lambda ctx, _param, name: ctx.meta.__setitem__(_TABLE, name),
    help="The table alone on stdout, for a paper (> table.tex); all else goes to stderr.",
)
_COUNT = click.option(
    "--jobs",
    type=click.IntRange(1),
    envvar="REIDPIPE_JOBS",
    metavar="N",
    expose_value=False,
    callback=lambda ctx, _param, count: ctx.meta.__setitem__(_JOBS, count),
    help="Steps made side by side, each in a process of its own (or REIDPIPE_JOBS).  [default: one "
    "per GPU; else cores divided by the threads of a step]",
)


def JOBS(function: Callable) -> Callable:  # noqa: N802 - beside the other options
    """``--jobs`` and the options of clusters; ``Terminal.execution`` knows what was typed."""
    return _COUNT(cluster_options(function))


LABEL_MAP = click.option(
    "--label-map",
    type=TypedPath(),
    help="JSON file {their label: label of lip} for a hf: parser whose labels are not known.",
)
PARSER_OPTION = click.option(
    "--parsing-option",
    "parser_settings",
    nargs=2,
    multiple=True,
    metavar="MODEL NAME=VALUE",
    help="Of a parser, such as solider semantic_weight=0.8; as --option of parse.",
)


def run_told(main: Callable[..., Any], *args: Any, **kwargs: Any) -> NoReturn:
    """Call click's ``main`` and leave the process: a mistake is one line on stderr and exit code 2,
    Ctrl-C one line and 130, ``kill`` the same and 143. Bugs keep their traceback.
    """
    kwargs["standalone_mode"] = False
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())
    words = [*(kwargs.get("args") or (args[0] if args else None) or sys.argv[1:])]
    with Listening() as listening:
        try:
            code = main(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if listening.number is not None or isinstance(error, Interrupted | KeyboardInterrupt):
                # Libraries make errors of their own of what ends them.
                program = getattr(error, "program", [])
                _interrupted([*program, *words] if program else [], listening.number)
            _fail(error)
    _flush()
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: BaseException) -> NoReturn:
    """Tell a mistake and leave; a bug is raised again."""
    if isinstance(error, ReidpipeError):
        for line in error.lines if isinstance(error, Unfinished) else ():
            click.echo(one_line(line), err=True)
        _stop(str(error))
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "reidpipe"
        _stop(f"{error.format_message().rstrip('.')}; type {path} -h")
    if isinstance(error, click.ClickException):
        _stop(error.format_message())
    if isinstance(error, click.Abort):
        _interrupted([], None)
    told = of_the_machine(error)
    if told is None:
        raise error
    _stop(told)


def _flush() -> None:
    """Write out what was printed; where that cannot be, as on a full disk, Python would try again
    when it leaves, and say so with a traceback.
    """
    if sys.stdout is None:  # closed before Python began
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # nobody reads on: no mistake
            click.echo(one_line(f"Error: {of_the_machine(error) or error}"), err=True)
            sys.exit(MISTAKE)


class Interrupted(Exception):
    """Ctrl-C, or another signal that ends a program. ``program``: the words before those that were
    typed to it.
    """

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.program = ["python", name] if (name or "").endswith(".py") else (name or "").split()


def _interrupted(command: Sequence[str], number: int | None) -> NoReturn:
    """Say that ``command`` was stopped by a signal, None: by Ctrl-C, and that the same one goes on;
    leave.
    """
    with contextlib.suppress(OSError):  # its terminal may be gone
        if os.environ.get("RANK", "0") == "0":
            if sys.stderr.isatty():
                click.echo(err=True)  # after the terminal's own ^C
            what = f": {printable(shlex.join(command))}" if command else ""
            click.echo(f"{LINE}{what}", err=True)
    sys.exit(exit_code(signal.SIGINT if number is None else number))


class _Stopped(click.Command):
    """What Ctrl-C stops; click would answer with an empty line."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Raises ``Interrupted`` on Ctrl-C, as ``invoke`` does."""
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except KeyboardInterrupt:
            raise Interrupted(info_name) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Raises ``Interrupted`` on Ctrl-C, which click would answer with an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(ctx.info_name) from None
        except Exception as error:
            # It may be a library's for what was a signal: then the command is told with it.
            vars(error)["program"] = Interrupted(ctx.info_name).program
            raise


class ToldCommand(_Stopped):
    """A command that stands alone (``python -m ...``) and tells mistakes as ``reidpipe`` does."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, as ``run_told`` says."""
        run_told(super().main, *args, **kwargs)


class LazyGroup(_Stopped, click.Group):
    """A group whose commands are imported when they are called or described.

    commands: name -> ``(short help, "module:function")``; the short help is shown by ``--help``
    without importing the module, so that the list of commands costs nothing.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.lazy:
            return None
        module, _, function = self.lazy[cmd_name][1].partition(":")
        return getattr(importlib.import_module(module), function)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (text, _) in self.lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"found unknown command '{args[0]}'{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, as ``run_told`` says."""
        run_told(super().main, *args, **kwargs)


def _stop(message: str) -> NoReturn:
    with contextlib.suppress(OSError):  # stderr may be a file on the same full disk
        click.echo(one_line(f"Error: {message}"), err=True)
    _flush()
    sys.exit(MISTAKE)


class Terminal:
    """What a command prints through: text for people, or one JSON value for machines.

    Under torchrun the first process alone prints. table: how ``publish`` writes, of
    ``publishing.FORMATS``; the text for people then goes to stderr.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        as_json: bool,
        verbosity: int = 0,
        table: str | None = None,
        jobs: int | None = 1,
        placed: Mapping[str, Any] | None = None,
    ) -> None:
        self.workspace = workspace
        self.as_json = as_json
        self.verbosity = verbosity
        self.table = table
        self.jobs = jobs
        self.placed = dict(placed or {})
        self.first = rank() == 0

    def say(self, text: str) -> None:
        """A line for people on stdout, on stderr with ``--table``; silent with ``--json``."""
        if self.first and not self.as_json:
            click.echo(printable(text), err=self.table is not None)

    def publish(self, table: Table) -> None:
        """The command's table on stdout when ``--table`` was given."""
        if self.first and self.table is not None:
            text = FORMATS[self.table](table)
            click.echo(text, nl=not text.endswith("\n"))

    def note(self, text: str) -> None:
        """A line on stderr beside the result, ``-q`` or not."""
        if self.first:
            click.echo(printable(text), err=True)

    @functools.cached_property
    def announce(self) -> Events:
        """Tells on stderr what is made, called with a step or as a ``Telling``; silent with
        ``-q``.
        """
        quiet = self.verbosity < 0 or not self.first
        return Events(self.workspace, self.note, quiet=quiet, draws=self.has_board)

    @property
    def draws(self) -> bool:
        """Whether bars may be drawn on stderr."""
        return sys.stderr.isatty() and self.verbosity >= 0

    @property
    def has_board(self) -> bool:
        """Whether what is made is shown on a board there: not under torchrun, whose processes share
        a terminal, and not where the terminal cannot move its cursor.
        """
        alone = "RANK" not in os.environ
        return self.draws and alone and os.environ.get("TERM", "dumb") != "dumb"

    def told(self, outcome: Outcome) -> None:
        """Say what was made and what was reused; nothing to do is said as such."""
        if outcome.made:
            self.say(f"made {len(outcome.made)} artifacts, reused {len(outcome.reused)}")
        else:
            self.say(f"nothing to do: all {len(outcome.reused)} artifacts exist")

    def result(self, value: Any) -> None:
        """The command's result on stdout when ``--json`` was given."""
        if self.first and self.as_json:
            click.echo(json.dumps(value, indent=2, sort_keys=True, default=str))

    def execution(
        self,
        *,
        device: str = "auto",
        workers: int | None = None,
        trackers: tuple[str, ...] = (),
        runs: Iterable[str] = (),
    ) -> Execution:
        """How this command executes steps: by default one process per available core."""
        return Execution(
            workers=workers or cores_allowed(),
            jobs=self.jobs,
            **self.placed,
            device=device,
            progress=self.draws and not self.has_board,
            watching=Watching(self.verbosity, trackers, tuple(runs)),
        )

    def make(self, step: Step, *, workers: int | None = None) -> Outcome:
        """Make a step on which depends what else this command asks for."""
        execution = self.execution(workers=workers)
        return graph.run(self.workspace, [step], execution, announce=self.announce)


def _verbosity(given: Mapping[str, Any]) -> int:
    """-1, 0 or 1 of the options ``VERBOSE`` and ``QUIET``, which a command alone does not have."""
    if given.get("verbose") and given.get("quiet"):
        raise ReidpipeError("found -v and -q; expected one of them; leave one out")
    return int(bool(given.get("verbose"))) - int(bool(given.get("quiet")))


def json_option(function: Callable) -> Callable:
    """Add ``--json`` and hand the command a ``Terminal`` first. Stands next to the function."""

    def wrapped(ctx: click.Context, as_json: bool, **options: Any) -> Any:
        given = ctx.find_root().params
        check_given(ctx.command.params, options)
        workspace = Workspace(given["workspace"], strict=bool(given.get("strict")))
        table = ctx.meta.get(_TABLE)
        if as_json and table:
            raise ReidpipeError(
                f"found --json and --table {table}; expected one of them, as both are all of "
                "stdout; leave one out"
            )
        terminal = Terminal(
            workspace,
            as_json=as_json,
            verbosity=_verbosity(given),
            table=table,
            jobs=ctx.meta.get(_JOBS, 1),
            placed=asked(ctx, workspace.root),
        )
        return function(terminal, **options)

    functools.update_wrapper(wrapped, function)
    option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    return option(click.pass_context(wrapped))
