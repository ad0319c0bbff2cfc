"""Whether a command of a page could be typed: its options exist, and so does what it names."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

import click

import cli
from parsing_models.parsers.catalogue import entry
from parsing_models.parsers.typed import typed
from pipeline.datasets.catalogue import load_manifest
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.recipe import load_learner
from reid_train.recipe.arguments import setting
from reid_train.recipe.loading import load_recipe
from tests.conftest import PROJECT
from tests.docs.pages import DOCS

# What stands for a name of the reader's: D, RUN, FILE.pth, folder:NAME. No name of ours is so.
STANDS_FOR = re.compile(r"[A-Z]")
# What a system has.
PLAIN = {"cd", "cp", "export", "for", "kill", "less", "ls", "mkdir", "openssl", "pdflatex", "tail"}


def check(words: Sequence[str]) -> None:
    """Raises what says why these words could not be typed."""
    words = list(words)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]  # the environment
    program, *rest = words
    if program == "reidpipe":
        check_reidpipe(rest)
    elif program == "torchrun":
        place = rest.index("-m")
        assert rest[place + 1] == "reid_train", rest
        assert all(
            re.match(r"--(nproc-per-node|nnodes|rdzv-[a-z]+|standalone)", word)
            for word in rest[:place]
            if word.startswith("-")
        ), rest
        check_reidpipe(rest[place + 2 :])
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in rest if "=" not in word and word not in targets] == []
    elif program == "pip":
        check_pip(rest)
    elif program == "python" and rest[0] != "-m":
        assert rest[0].startswith("docs/examples/") and (PROJECT / rest[0]).is_file(), rest
    elif program == "python":
        assert rest[1] == "http.server" or importlib.util.find_spec(rest[1]) is not None, rest
        assert not rest[1].startswith("reid_train") or rest[2:] != [], rest
    elif program == "dask":
        check_dask(rest)
    else:
        assert program in PLAIN, f"{program} is no program that a page may use"


def check_reidpipe(words: list[str]) -> None:
    """Parse as click does, and look names up as the command would."""
    with click.Context(cli.main, info_name="reidpipe") as context:
        given, rest, _ = cli.main.make_parser(context).parse_args(list(words))
        if not rest:
            return
        command: click.Command | None = cli.main
        while isinstance(command, click.Group):
            name, *rest = rest
            command = command.get_command(context, name)
            assert command is not None, f"no command {name}"
        assert command is not None
        if {"-h", "--help"} & set(rest):
            return
        found = command.make_context(name, rest, parent=context)
    check_names(name, found.params, plugins=bool(given.get("given")))


def check_names(command: str, params: dict[str, Any], *, plugins: bool) -> None:
    """Datasets, recipes, their settings and parsers that the words name."""
    for dataset in listed(
        params, "dataset", "datasets", "targets", "trained_on", "eval_on", "tested"
    ):
        if not STANDS_FOR.search(dataset) and not (command == "classify" and "/" in dataset):
            load_manifest(own_file(dataset))
    settings = dict(setting(text) for text in params.get("settings") or () if command != "parse")
    for recipe in listed(params, "recipe", "recipes"):
        if STANDS_FOR.search(recipe) or plugins:
            continue
        if command == "classify":
            load_learner(recipe, params.get("split") or "all", list(settings.items()))
        elif command == "recipes":
            known(recipe)
        else:
            load_recipe(own_file(recipe), settings if command in ("train", "run") else None)
    for kind in listed(params, "parsing", "parsers", "pair", "model" if command == "parse" else ""):
        if not plugins and (kind.startswith("hf:") or not STANDS_FOR.search(kind)):
            entry(typed(kind)[0])


def known(recipe: str) -> None:
    """A recipe of either kind."""
    try:
        load_recipe(recipe)
    except ReidpipeError:
        load_learner(recipe)


def own_file(name: str) -> str:
    """A file that the reader has beside the page: one of docs/examples."""
    file = DOCS / "examples" / name
    return str(file) if name.endswith(".yaml") and file.is_file() else name


def listed(params: dict[str, Any], *names: str) -> Iterable[str]:
    for name in names:
        value = params.get(name)
        for text in [value] if isinstance(value, str) else value or ():
            yield from text.split(",")


def check_pip(words: list[str]) -> None:
    """Of this package only what it has; of others only those an extra names."""
    assert words[0] == "install", words
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    for word in words[1:]:
        if match := re.fullmatch(r"(?:\.|reidpipe)\[(.+)\]", word):
            assert set(match[1].split(",")) <= extras, word


def check_dask(words: list[str]) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    name, *rest = words
    main = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[name]
    main.make_parser(click.Context(main)).parse_args(rest)
