"""The runner of the table of speeds: which files it runs, and how a row is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as runner
from benchmarks import maps, peers
from benchmarks.row import Row, line

ROW = Row("work", 2.345, "x", "faster than theirs", "30x", "", None)


def test_a_row_as_a_line():
    assert line(ROW) == (
        "work: 2.35x faster than theirs | goal 30x | limit not known | memory not measured"
    )
    rate = Row("work", 1200, "images a second", "", "", "decoding: 1,300", 4.6)
    assert line(rate).endswith("| goal none | limit decoding: 1,300 | 5 MiB")


def test_files_are_chosen_by_words():
    assert "evaluation" in runner.chosen(()) and "row" not in runner.chosen(())
    assert runner.chosen(("eval",)) == ["evaluation"]
    found = CliRunner().invoke(runner.main, ["--only", "nothing-like-it"])
    assert found.exit_code == 2 and "found no benchmark" in found.output


def test_one_file_that_fails_keeps_no_other_from_being_measured(monkeypatch: pytest.MonkeyPatch):
    given: list[Path | None] = []

    def with_peers(peers: Path | None = None):
        given.append(peers)
        yield ROW

    def failing():
        yield ROW
        raise ValueError("broken")

    files = {
        "a": SimpleNamespace(rows=failing),
        "b": SimpleNamespace(),
        "c": SimpleNamespace(rows=with_peers),
    }
    monkeypatch.setattr(runner, "chosen", lambda only: list(files))
    monkeypatch.setattr(
        runner.importlib, "import_module", lambda name: files[name.removeprefix("benchmarks.")]
    )
    found = CliRunner().invoke(runner.main, ["--peers", "."])
    assert found.stdout.splitlines() == [line(ROW)] * 2 and given == [Path()]
    assert found.exit_code == 1 and "failed: a" in found.stderr and "broken" in found.stderr


def test_two_checkouts_may_have_a_package_of_one_name(tmp_path: Path):
    for name in ("one", "other"):
        package = tmp_path / name / "utils"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "words.py").write_text(f"def said():\n    return {name!r}\n")
        (package / f"{name}.py").write_text("from utils.words import said\n")
    for name in ("one", "other"):
        said = peers.package_function(tmp_path / name, f"utils.{name}", "said")
        assert said() == name
    assert "utils" not in sys.modules


@pytest.mark.slow
def test_label_maps_are_written_and_read_in_every_way():
    rates = maps.measured(64, 1)
    assert {"written by parse", "read by training", "unpacked by zlib alone"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
