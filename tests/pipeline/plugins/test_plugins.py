"""Plugins as text and as tables: names without an import, digests, refusals in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import plugins
from pipeline.plugins.kinds import KINDS, resolve
from pipeline.plugins.source import Plugin
from pipeline.terminal.errors import ReidpipeError
from reid_train.losses import LOSSES

HEAD = "from pipeline.plugins import register\n"
LOSS = HEAD + '@register.loss("mine")\nclass Mine:\n    pass\n'


@pytest.fixture(autouse=True)
def no_plugins_afterwards() -> Iterator[None]:
    yield
    plugins.use([])


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        LOSS,
        HEAD + 'class Mine: pass\nregister.loss("mine")(Mine)\n',
        'from pipeline.plugins import register as door\n@door.loss("mine")\nclass Mine: pass\n',
        'import pipeline.plugins as p\n@p.register.loss("mine")\nclass Mine: pass\n',
        'import pipeline.plugins\n@pipeline.plugins.register.loss("mine")\nclass Mine: pass\n',
        HEAD + 'def f():\n    return 1\n@register.loss("mine", note="x")\nclass Mine: pass\n',
    ],
)
def test_names_are_read_from_the_text_and_imported_when_asked_for(tmp_path: Path, text: str):
    reference = written(tmp_path, text)
    plugins.use([reference])
    (plugin,) = plugins.plugins()
    assert set(plugin.names) == {("loss", "mine")}
    assert "mine" in LOSSES and "mine" in list(LOSSES)
    assert plugin.module not in sys.modules
    assert LOSSES["mine"].__name__ == "Mine" and plugin.module in sys.modules


def test_a_computed_name_is_found_by_importing(tmp_path: Path):
    text = HEAD + 'for n in ("one", "two"):\n    register.loss(f"mine-{n}")(type(n, (), {}))\n'
    plugins.use([written(tmp_path, text)])
    assert "mine-two" in LOSSES and LOSSES["mine-one"].__name__ == "one"
    assert "mine-three" not in LOSSES


def test_a_digest_is_of_the_text_alone(tmp_path: Path):
    first = Plugin.read(written(tmp_path, LOSS))
    (tmp_path / "elsewhere").mkdir()
    assert Plugin.read(written(tmp_path / "elsewhere", LOSS, "other.py")).digest == first.digest
    changed = Plugin.read(written(tmp_path, LOSS.replace("pass", "pass ")))
    assert changed.digest != first.digest
    plugins.use([str(tmp_path / "elsewhere" / "other.py")])
    used = [("loss", "mine"), ("loss", "triplet"), ("head", "linear"), ("sampler", "")]
    assert plugins.digests(used) == {"loss mine": first.digest}


def test_a_module_s_digest_is_of_its_whole_package(tmp_path: Path, monkeypatch):
    package = tmp_path / "reid_extras_for_tests"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS)
    (package / "deep" / "part.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = Plugin.read("reid_extras_for_tests.losses")
    assert set(before.names) == {("loss", "mine")}
    assert "reid_extras_for_tests" not in sys.modules
    plugins.use(["reid_extras_for_tests.losses"])
    assert LOSSES["mine"].__module__ == "reid_extras_for_tests.losses"
    (package / "deep" / "part.py").write_text("VALUE = 2\n")
    assert Plugin.read("reid_extras_for_tests.losses").digest != before.digest


def install(folder: Path, *modules: str) -> None:
    """A package whose entry points are these modules, on a path of Python's."""
    about = folder / "reid_installed_for_tests-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: reid-installed-for-tests\nVersion: 1.0\n")
    points = [f"point-{number} = {module}" for number, module in enumerate(modules)]
    (about / "entry_points.txt").write_text("\n".join(["[reidpipe.plugins]", *points, ""]))


def test_an_installed_package_is_a_plugin_by_its_entry_point(tmp_path: Path, monkeypatch):
    (tmp_path / "reid_installed_for_tests.py").write_text(LOSS)
    install(tmp_path, "reid_installed_for_tests")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.use([])
    assert [plugin.reference for plugin in plugins.plugins()] == ["reid_installed_for_tests"]
    assert plugins.given() == [] and "mine" in LOSSES
    assert LOSSES["mine"].__module__ == "reid_installed_for_tests"


@pytest.mark.parametrize("how", ["module", "file", "link"])
def test_a_plugin_that_is_installed_and_given_counts_once(tmp_path: Path, monkeypatch, how: str):
    name = f"reid_given_too_{how}"
    file = tmp_path / f"{name}.py"
    file.write_text(LOSS)
    (tmp_path / "linked.py").symlink_to(file)
    install(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    reference = {"module": name, "file": str(file), "link": str(tmp_path / "linked.py")}[how]
    plugins.use([reference])
    assert [plugin.reference for plugin in plugins.plugins()] == [reference]
    plugins.load_given()
    assert LOSSES["mine"].__name__ == "Mine" and list(LOSSES).count("mine") == 1


def test_a_file_that_is_given_twice_counts_once(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    first = written(tmp_path, LOSS)
    plugins.use([first, f"{tmp_path}/sub/../mine.py"])
    assert [plugin.reference for plugin in plugins.plugins()] == [first]
    plugins.load_given()
    assert LOSSES["mine"].__name__ == "Mine"


def test_two_modules_of_one_package_are_imported_both(tmp_path: Path, monkeypatch):
    package = tmp_path / "reid_two_for_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS)
    (package / "heads.py").write_text(LOSS.replace("mine", "other"))
    install(tmp_path, "reid_two_for_tests.heads", "reid_two_for_tests.losses")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.use([])
    assert len(plugins.plugins()) == 2
    assert LOSSES["mine"].__module__ == "reid_two_for_tests.losses"
    assert LOSSES["other"].__module__ == "reid_two_for_tests.heads"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def :", "no Python"),
        (HEAD + "raise ValueError('no\\nway')\n", r"mine.py.*cannot be imported.*no way, line 2"),
        (HEAD + "raise SystemExit(3)\n", r"mine.py.*cannot be imported .SystemExit: 3, line 2"),
        (HEAD + "register.los('mine')\n", "has no 'los'.*did you mean 'loss'"),
        (LOSS.replace("mine", "triplet"), "'triplet'.*line 2.*the package has"),
        (HEAD + 'register.loss(str("triplet"))(int)\n', "'triplet'.*the package has"),
        (HEAD + 'if False:\n    register.loss("mine")(int)\n', "registers no loss 'mine'"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(ReidpipeError, match=message) as error:
        plugins.use([written(tmp_path, text)])
        plugins.load_given()
        LOSSES["mine"]
    assert "\n" not in str(error.value)


def test_two_plugins_with_one_name_are_refused(tmp_path: Path):
    both = [written(tmp_path, LOSS, name) for name in ("a.py", "b.py")]
    with pytest.raises(ReidpipeError, match=r"b\.py.*a name that plugin .*a\.py has"):
        plugins.use(both)


@pytest.mark.parametrize(
    ("reference", "message"),
    [("nowhere/mine.py", "found no plugin .*mine.py"), ("no_such_module", "found no module")],
)
def test_a_plugin_that_is_not_there(reference: str, message: str):
    with pytest.raises(ReidpipeError, match=message):
        plugins.use([reference])


def test_what_was_made_with_a_plugin_needs_the_same_text(tmp_path: Path):
    plugins.use([reference := written(tmp_path, LOSS)])
    used = plugins.digests([("loss", "mine")])
    plugins.require({**used, "pretrained": "00"}, "a model")
    assert plugins.described(used) == {
        "mine.py": {"sha256": used["loss mine"], "names": ["loss mine"]}
    }
    plugins.use([])
    with pytest.raises(ReidpipeError, match="a model.*loss 'mine'.*not given"):
        plugins.require(used, "a model")
    Path(reference).write_text(LOSS + "\n")
    plugins.use([reference])
    with pytest.raises(ReidpipeError, match="expected the same text"):
        plugins.require(used, "a model")


def test_processes_started_from_here_have_the_same_plugins(tmp_path: Path, monkeypatch):
    reference = written(tmp_path, LOSS)
    monkeypatch.setenv("REIDPIPE_PLUGINS", reference)
    assert plugins.from_environment() == [reference]
    plugins.use(plugins.from_environment())
    plugins.ensure([reference])
    assert [plugin.reference for plugin in plugins.given()] == [reference]


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_the_package_leads_to_something(kind: str):
    door = resolve(KINDS[kind])
    assert door.kind == kind and len(door) == len(door.own)
    for name in door.own:
        assert door[name] is not None


def test_a_plugin_is_imported_once_in_a_process(tmp_path: Path, monkeypatch):
    """Whatever lists come and go: nothing that holds its classes sees them twice."""
    package = tmp_path / "reid_once_for_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.use(["reid_once_for_tests.losses"])
    first = LOSSES["mine"]
    plugins.use([])
    assert "mine" not in LOSSES
    plugins.use(["reid_once_for_tests.losses"])
    assert LOSSES["mine"] is first
    (package / "losses.py").write_text(LOSS + "\n# changed\n")
    plugins.use(["reid_once_for_tests.losses"])
    assert LOSSES["mine"] is not first


def test_a_list_that_is_refused_leaves_the_one_before(tmp_path: Path):
    plugins.use([good := written(tmp_path, LOSS)])
    with pytest.raises(ReidpipeError, match="the package has"):
        plugins.use([written(tmp_path, LOSS.replace("mine", "triplet"), "bad.py")])
    assert [plugin.reference for plugin in plugins.given()] == [good]
