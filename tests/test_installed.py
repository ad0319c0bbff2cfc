"""The wheel and the sdist: what is in them, and the installed command beside a user's own modules.

Nothing is downloaded: both are built without isolation, and the wheel is installed without
dependencies into an empty environment that finds those of the running one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN
from tests.conftest import PROJECT

FILES = (
    "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile",
    "README.md", "cli.py", "constraints.txt", "pyproject.toml",
)  # fmt: skip
PACKAGES = ("data_manifests", "parsing_models", "pipeline", "reid_train")
BESIDE = ("benchmarks", "docs", "tests")
# What a checkout may hold besides, none of it the project's.
LEFT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")
pytestmark = pytest.mark.slow


def run(
    *words: str | Path, cwd: Path, code: int = 0, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A finished process, of no other ``PYTHONPATH`` than that of ``extra``."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", **(extra or {})}
    finished = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place for bytecode outside the running environment: torch takes seconds to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


def build(source: Path, kind: str, folder: Path) -> Path:
    """The ``wheel`` or ``sdist`` of a source tree, in ``folder``."""
    code = f"import sys, setuptools.build_meta as b; b.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, folder, cwd=source)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own files, as a fresh clone has them: leftovers of a build are taken along."""
    folder = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(PROJECT / name, folder)
    for name in (*PACKAGES, *BESIDE):
        shutil.copytree(PROJECT / name, folder / name, ignore=LEFT)
    return folder


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


def below(folder: Path, names: tuple[str, ...]) -> set[str]:
    """Every file in the folders ``names``, relative to ``folder``."""
    files = (path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_the_wheel_has_the_packages_and_nothing_else(source: Path, wheel: Path):
    found = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert found == {"cli.py"} | below(source, PACKAGES)
    # What the comparison above stands on: data is there, and none of it in folders of its own.
    kinds = {"/".join((*name.split("/")[:-1], "*." + name.rpartition(".")[2])) for name in found}
    assert {kind for kind in kinds if not kind.endswith(".py")} == {
        "data_manifests/*.yaml", "parsing_models/weights/*.json",
        "parsing_models/weights/*.safetensors", "reid_train/classify/published/*.yaml",
        "reid_train/figures/page/templates/*.css",
        "reid_train/figures/page/templates/*.html", "reid_train/recipe/published/*.yaml",
        "reid_train/weights/*.json", "reid_train/weights/*.safetensors",
    }  # fmt: skip


def test_the_sdist_has_the_project_and_builds_the_same_wheel(
    source: Path, sdist: Path, wheel: Path, tmp_path: Path
):
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    files = {name for name in found if (unpacked / name).is_file()}
    made = {name for name in files if name.startswith("reidpipe.egg-info/")}
    assert files - made == {"PKG-INFO", "setup.cfg", *FILES} | below(source, PACKAGES + BESIDE)
    again = build(unpacked, "wheel", tmp_path / "again")
    assert again.name == wheel.name and contents(again) == contents(wheel)


@dataclass(frozen=True)
class Installed:
    """The environment with the wheel."""

    root: Path

    def program(self, name: str) -> Path:
        return self.root / "bin" / name

    def reidpipe(
        self, *words: str | Path, cwd: Path, extra: Mapping[str, str] | None = None
    ) -> str:
        """What the installed script prints."""
        return run(self.program("reidpipe"), *words, cwd=cwd, extra=extra).stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment of the wheel alone, which finds the libraries of the running one."""
    root = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", root, cwd=root)
    made = Installed(root)
    pip = (sys.executable, "-m", "pip", "--python", made.program("python"), "install", "--no-deps")
    run(*pip, "--no-index", "--quiet", "--no-compile", wheel, cwd=root)
    # A folder named in a .pth file goes behind, and its own .pth files, such as that of an
    # editable installation of the source tree, are not read.
    (site,) = root.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)))
    code = (
        "import cli, data_manifests, parsing_models, pipeline, reid_train, sys, torch\n"
        "ours = (cli, data_manifests, parsing_models, pipeline, reid_train)\n"
        "print([module.__file__ for module in ours], sys.meta_path)"
    )
    printed = run(made.program("python"), "-c", code, cwd=root).stdout
    assert printed.count(f"'{site}/") == 5 and "editable" not in printed
    return made


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, whose modules are called as ours are and must not be imported."""
    folder = tmp_path_factory.mktemp("users")
    for name in ("cli.py", "parsing_models.py", "pipeline/__init__.py", "data_manifests/a.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise RuntimeError('a module of the user')\n")
    (folder / "data_manifests" / "__init__.py").touch()
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the last tests: the images that one has drawn another need not draw again."""
    return tmp_path_factory.mktemp("workspace")


def listed(printed: str, key: str) -> set[str]:
    return {row[key] for row in json.loads(printed)}


def names_in(folder: str) -> set[str]:
    return {path.stem for path in (PROJECT / folder).glob("*.yaml")}


RECIPES = names_in("reid_train/recipe/published") | names_in("reid_train/classify/published")


def prepared_trained_evaluated(
    installed: Installed, workspace: Path, cwd: Path, extra: Mapping[str, str]
) -> None:
    """Two processes draw the images; what is typed then stands on them."""

    def typed(*words: str) -> str:
        return installed.reidpipe("--workspace", workspace, *words, cwd=cwd, extra=extra)

    assert typed("--version") == "reidpipe, version 0.1.0\n"
    assert listed(typed("datasets", "--json"), "id") == names_in("data_manifests")
    assert listed(typed("recipes", "--json"), "recipe") == RECIPES
    typed("prepare", "--workers", "2", "--size", "32x16")
    trained = json.loads(typed("train", "baseline-tiny", *TRAIN, "--device", "cpu", "--json"))
    assert trained["run"].startswith("baseline-tiny-mannequins-s0")
    assert json.loads(typed("eval", "--json"))["run"] == trained["run"]


def test_the_command_beside_modules_of_the_user(installed: Installed, users: Path, tmp_path: Path):
    prepared_trained_evaluated(installed, tmp_path, users, {})


def test_the_command_with_modules_of_the_user_on_pythonpath(
    installed: Installed, users: Path, workspace: Path, tmp_path: Path
):
    prepared_trained_evaluated(installed, workspace, tmp_path, {"PYTHONPATH": str(users)})


def test_as_a_module(installed: Installed, users: Path):
    module = (installed.program("python"), "-m", "reid_train")
    assert listed(run(*module, "recipes", "--json", cwd=users).stdout, "recipe") == RECIPES


def test_under_torchrun(installed: Installed, users: Path, workspace: Path):
    launcher = (installed.program("python"), "-m", "torch.distributed.run")
    printed = run(
        *(*launcher, "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
        *("-m", "reid_train", "--workspace", workspace),
        *("train", "baseline-tiny", *TRAIN, "--seed", "1", "--device", "cpu"),
        cwd=users,
        extra={"PYTHONPATH": str(users)},
    ).stdout
    assert printed.count("run baseline-tiny-mannequins-s1") == 1
