"""What no file of the project may do or say."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT as ROOT
from tests.sources import imported, module_name, own_files, sources, tree


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
        if module_name(path) == "reid_train.engine.runtime":
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
    assert users == {"pipeline.datasets.fetch"}


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
