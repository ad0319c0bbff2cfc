"""The rules of the house: who imports whom, what no file may do, what every command must have."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import cli
from pipeline.commandline import LazyGroup
from pipeline.manifest import list_manifests
from reid_train.recipe import list_recipes

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "parsing_models", "reid_train")
SPINE = {f"reid_train.{name}" for name in ("task", "loop", "runtime", "checkpoint")}
HEAVY = ("torch", "open_clip", "transformers", "dask", "matplotlib")


def sources() -> list[Path]:
    """Every Python file of the package."""
    return [
        ROOT / "cli.py",
        *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))),
    ]


def own_files() -> list[Path]:
    """Every Python file of the project."""
    folders = ("tests", "benchmarks", "docs")
    return [*sources(), *(path for name in folders for path in sorted((ROOT / name).rglob("*.py")))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, at its top or in a function; the same name for
    ``import a.b``, ``from a.b import x`` and ``from a import b``.
    """
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if is_module(name)}
            names |= modules or {node.module}
            if modules != inner:
                names.add(node.module)
    # A worker or a lazy command is named in a string; those are the graph's and cli's own arrows.
    return names


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_import_reader_tells_modules_from_names(tmp_path: Path):
    path = tmp_path / "a.py"
    path.write_text(
        "from reid_train import load_model, loop\nimport reid_train.task\n"
        "def f():\n    from reid_train.models.tiny import anything\n"
    )
    assert imported(path) == {
        "reid_train", "reid_train.loop", "reid_train.task", "reid_train.models.tiny",
    }  # fmt: skip


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_one_way(path: Path):
    name, names = module_name(path), imported(path)
    rooms = {room_of(other) for other in names}
    if room_of(name) == "pipeline":
        assert rooms.isdisjoint({"reid_train", "parsing_models", "cli"})
    elif room_of(name) == "parsing_models":
        others = {other for other in names if room_of(other) == "reid_train"}
        assert others <= SPINE and "cli" not in rooms
    elif room_of(name) == "reid_train":
        assert rooms.isdisjoint({"parsing_models", "cli"})
        if name in SPINE:
            others = {other for other in names if room_of(other) == "reid_train"}
            assert others <= SPINE
    assert rooms.isdisjoint({"tests", "benchmarks"})


def test_worker_names_lead_to_functions():
    """Steps and lazy commands name their functions in strings; those that exist must resolve."""
    pattern = re.compile(r"""["']((?:pipeline|reid_train|parsing_models)[\w.]*):(\w+)["']""")
    found = {match for path in sources() for match in pattern.findall(path.read_text())}
    assert ("reid_train.work_train", "train") in found
    for module, function in sorted(found):
        place = ROOT.joinpath(*module.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        tops = {
            name
            for node in tree(file).body
            for name in (
                [node.name]
                if isinstance(node, ast.FunctionDef)
                else [alias.asname or alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert function in tops, f"{module}:{function}"


def test_files_are_short_and_named_for_what_they_hold():
    for path in own_files():
        assert path.name not in {"utils.py", "common.py", "helpers.py"}, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the dotted name it is written with."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def dangers(path: Path) -> list[str]:
    """Calls and imports that would run a shell or code found in a file, with their lines."""
    found = []
    for name, call in calls(path):
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        shell = name in {"os.system", "os.popen"} or options.get("shell", "False") != "False"
        unpickled = name in {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"}
        guarded = options.get("weights_only") == "True"
        pickled = (name == "torch.load" and not guarded) or (
            name.split(".")[-1] in {"load", "memmap"} and options.get("allow_pickle") == "True"
        )
        loaded = name in {"yaml.load", "yaml.unsafe_load", "eval", "exec"}
        if shell or unpickled or pickled or loaded:
            found.append(f"{path.name}:{call.lineno} {name}")
    return found


def test_danger_is_seen(tmp_path: Path):
    path = tmp_path / "bad.py"
    lines = [
        "os.system('x')", "subprocess.run('x', shell=True)", "pickle.load(f)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "yaml.load(f)",
    ]  # fmt: skip
    fine = ["torch.load(f, weights_only=True)", "np.load(f)", "yaml.safe_load(f)", "run(['x'])"]
    path.write_text("\n".join(lines + fine))
    assert [int(line.split(":")[1].split()[0]) for line in dangers(path)] == list(range(1, 8))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_no_shell_and_no_code_from_files(path: Path):
    assert dangers(path) == []


def test_devices_are_named_in_one_file():
    """Neither ``"cuda"``, ``"cuda:1"`` nor ``.cuda()`` elsewhere; help texts may speak of them."""
    for path in sources():
        if module_name(path) == "reid_train.runtime":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.fullmatch(r"cuda(:\d+)?|mps", node.value), (path, node.lineno)
        for name, call in calls(path):
            assert not name.endswith(".cuda"), (path, call.lineno)
            assert not name.startswith(("torch.cuda.", "torch.accelerator.")), (path, call.lineno)


def test_torch_loads_stand_on_one_line():
    """``torch.load(`` and its ``weights_only=True`` are greppable."""
    for path in sources():
        for line in path.read_text(encoding="utf-8").splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in line, (path, line)


def test_only_fetch_reaches_the_network():
    network = {"requests", "urllib.request", "http.client", "httpx", "pooch", "gdown"}
    users = {module_name(path) for path in sources() if imported(path) & network}
    assert users == {"pipeline.fetch"}


def run_measured(code: str) -> tuple[float, str]:
    """CPU seconds (user and system) and stdout of ``python -c code``."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return usage.ru_utime + usage.ru_stime, output


def test_help_is_quick_and_imports_no_network():
    code = (
        "import sys, cli\n"
        "sys.argv = ['reidpipe', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit: pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    cost = min(run_measured(code)[0] for _ in range(3)) - min(
        run_measured("pass")[0] for _ in range(3)
    )
    output = run_measured(code)[1]
    assert "prepare" in output and output.splitlines()[-1] == "LOADED []"
    assert cost < 0.3, f"{cost:.2f} s"


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
    }  # fmt: skip
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in listed:
        assert re.search(rf"`(reidpipe )?{name}\b", readme), f"README.md does not name {name}"


@pytest.mark.parametrize("room", ["pipeline", "parsing_models", "reid_train"])
def test_the_map_of_the_house_names_every_module(room: str):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.name for path in (ROOT / room).glob("*.py")} - {"__init__.py"}
    assert {name for name in modules if not re.search(rf"\b{re.escape(name)}\b", text)} == set()


@pytest.mark.parametrize("name", list_recipes())
def test_readme_names_every_recipe(name: str):
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("manifest", list_manifests(), ids=lambda manifest: manifest.id)
def test_readme_names_every_dataset(manifest):
    assert f"`{manifest.id}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_withdrawn_dataset_has_no_address():
    text = (ROOT / "data_manifests" / "dukemtmc_reid.yaml").read_text(encoding="utf-8")
    assert not re.search(r"https?://|www\.|ftp:|drive\.google|magnet:", text)
    assert yaml.safe_load(text)["policy"] == "never"


def test_no_path_of_this_machine_is_in_the_project():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    places = {place for place in (str(ROOT), str(Path.home())) if len(place) > 1}
    names = re.compile("|".join(rf"(?<![\w.]){re.escape(place)}(?![\w])" for place in places))
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).suffix in {".py", ".md", ".yaml", ".toml", ".json", ".txt", ""}:
            found = names.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{name}: {found.group() if found else ''}"
