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


# Calls of functions, of Python's and of C, since seconds say as much about the machine: the same
# look took .40 and .69 CPU seconds of one machine within an hour.
COUNTED = """
import sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.argv = ["reidpipe", *{words!r}]
sys.setprofile(count)
from reid_train.__main__ import main
try:
    main()
except SystemExit:
    pass
sys.setprofile(None)
print(calls, [name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("word", "says", "limit"),
    [
        ("--help", "prepare", 180_000),
        ("datasets", "market1501", 700_000),
        ("recipes", "pi-vl-rn50", 1_900_000),
        ("recipes --for own", "baseline-tiny", 1_700_000),
    ],
)
def test_looking_is_quick_and_imports_no_numbers(
    compiled: dict[str, str], word: str, says: str, limit: int
):
    code = COUNTED.format(words=word.split(), HEAVY=HEAVY)
    run_measured(code, compiled)  # compiles
    seconds, output = run_measured(code, compiled)
    calls, _, loaded = output.splitlines()[-1].partition(" ")
    assert says in output and loaded == "[]"
    assert int(calls) < limit and seconds < 10, f"{calls} calls, {seconds:.2f} s"


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
