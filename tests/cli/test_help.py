"""Every command has help, and help costs nothing; the README names what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import cli
from pipeline.datasets.catalogue import list_manifests
from pipeline.terminal.commandline import LazyGroup
from reid_train.recipe.loading import list_recipes
from tests.conftest import PROJECT as ROOT

# Looking up names takes none of these: neither networks nor numbers.
HEAVY = (
    "torch", "open_clip", "timm", "transformers", "dask", "distributed", "matplotlib", "numpy",
    "scipy", "sklearn", "h5py", "PIL", "requests",
)  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment with a place for bytecode, which an installed command finds compiled."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run_measured(code: str, environment: dict[str, str]) -> tuple[float, str]:
    """CPU seconds (user and system) and stdout of ``python -c code``."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return usage.ru_utime + usage.ru_stime, output


# What a Python program of some size imports of the standard library: the unit of the limits below,
# since a machine's speed differs by three from day to day and seconds would say nothing.
YARDSTICK = (
    "import asyncio, doctest, email.mime.multipart, http.server, importlib.metadata, ipaddress, "
    "logging.config, multiprocessing.pool, sqlite3, statistics, tarfile, unittest.mock, "
    "urllib.request, xml.dom.minidom, zipfile"
)


@pytest.mark.parametrize(
    ("word", "says", "limit"),
    [
        ("--help", "prepare", 2),
        ("datasets", "market1501", 5),
        ("recipes", "pi-vl-rn50", 5),
        ("recipes --for own", "baseline-tiny", 5),
    ],
)
def test_looking_is_quick_and_imports_no_numbers(
    compiled: dict[str, str], word: str, says: str, limit: float
):
    code = (
        "import sys\n"
        "from reid_train.__main__ import main\n"
        f"sys.argv = ['reidpipe', *{word.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = run_measured(code, compiled)[1]
    assert says in output and output.splitlines()[-1] == "LOADED []"
    # Run in turn, and the least of several: what else runs on the machine only adds.
    programs = ("pass", YARDSTICK, code)
    turns = [[run_measured(program, compiled)[0] for program in programs] for _ in range(5)]
    empty, yardstick, cost = (min(seconds) for seconds in zip(*turns, strict=True))
    ratio = (cost - empty) / (yardstick - empty)
    assert ratio < limit, f"{ratio:.1f} times the yardstick, {cost - empty:.2f} s"


def commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of every command below ``group``, groups included."""
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group, info_name="reidpipe")
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            yield from commands(command, (*path, name))


ALL = [words for words in commands(cli.main, ()) if words]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]):
    for flag in ("-h", "--help"):
        result = CliRunner().invoke(cli.main, [*words, flag], prog_name="reidpipe")
        assert result.exit_code == 0, result.output
        assert re.search(
            rf"Example: +reidpipe +{' +'.join(words)}", " ".join(result.output.split())
        )
    command = cli.main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    if not isinstance(command, click.Group):
        assert "--json" in result.output
        undescribed = [
            option.name
            for option in command.params
            if isinstance(option, click.Option) and not option.help and option.name != "seed"
        ]
        assert undescribed == []


def test_commands_of_the_contract_are_listed():
    assert isinstance(cli.main, LazyGroup)
    listed = set(cli.main.list_commands(click.Context(cli.main)))
    assert listed == {
        "prepare", "parse", "train", "eval", "report", "run", "demo", "classify", "embed",
        "search", "score", "import", "export", "status", "cache", "datasets", "recipes", "doctor",
        "figure", "watch",
    }  # fmt: skip
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in listed:
        assert re.search(rf"`(reidpipe )?{name}\b", readme), f"README.md does not name {name}"


@pytest.mark.parametrize("name", list_recipes())
def test_readme_names_every_recipe(name: str):
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("manifest", list_manifests(), ids=lambda manifest: manifest.id)
def test_readme_names_every_dataset(manifest):
    assert f"`{manifest.id}`" in (ROOT / "README.md").read_text(encoding="utf-8")
