"""docs/examples/changed.py: which queries two recipes differ for, by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import ImageRow
from tests.cli.conftest import Console
from tests.conftest import PROJECT
from tests.golden import module_at

SCRIPT = PROJECT / "docs" / "examples" / "changed.py"
ENVIRONMENT = {"PYTHONPATH": str(PROJECT), "PATH": ""}
PERSON = "A person with red hair, wearing {}, {}standing, seen from {}, before tiles{}."


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_at(SCRIPT)


def row(key: str, pid: int, caption: str) -> ImageRow:
    return ImageRow(
        key, key, "query", pid, 0, None, "", None, 128, 256, "0" * 64, {"caption": caption}
    )


ROWS = {
    "a": row("a", 1, PERSON.format("a red coat and blue jeans", "", "the front", "")),
    "b": row("b", 1, PERSON.format("a red coat and blue jeans", "", "behind", "")),
    "c": row("c", 2, PERSON.format("a red coat", "carrying a bag, ", "the side, facing left", "")),
    "d": row("d", 3, PERSON.format("a green dress", "", "behind", ", partly hidden by a pole")),
}


def test_what_a_query_is(script: ModuleType):
    assert script.clothes(ROWS["c"].extra["caption"]) == {"red", "coat"}
    # Of four words two are shared by the first two people; the third shares none.
    np.testing.assert_allclose(script.alike(ROWS, list("abcd")), [0.5, 0.5, 0.5, 0])
    own, like = "clothes of its own", "clothes like another's"
    assert script.kinds(ROWS["d"].extra["caption"], 0.0, 0.4) == ["back", "partly hidden", own]
    assert script.kinds(ROWS["a"].extra["caption"], 0.5, 0.4) == ["front", "whole", like]


def test_gains_are_of_the_second_over_the_first_in_pairs(script: ModuleType):
    base, other = ([SimpleNamespace(ap=np.array(ap)) for ap in seeds] for seeds in (
        ([0.1, 0.5], [0.3, 0.5]), ([0.3, 0.4], [0.7, 0.4])))  # fmt: skip
    np.testing.assert_allclose(script.gains(base, other), [0.3, -0.1])


def test_mean_gain_of_each_kind(script: ModuleType):
    lines = script.told(ROWS, list("abcd"), np.array([0.1, 0.2, -0.3, 0.4]))
    said = {line.split(":")[0]: line.split(":")[1] for line in lines}
    assert said["all"].startswith(" 4 queries of 3 people, AP +10.0")
    assert said["back"].startswith(" 2 queries of 2 people, AP +30.0")
    assert said["whole"].startswith(" 3 queries of 2 people, AP +0.0")
    assert said["clothes of its own"].startswith(" 4 queries of 3 people")


def test_a_table_of_one_run(trained: Console, tmp_path: Path):
    table = tmp_path / "table.json"
    runs = [run.name for run in list_runs(Workspace(trained.root))]
    # of another protocol, and so another evaluation of the same run
    trained("eval", "--flip")
    row = {
        "recipe": "baseline-tiny", "runs": runs, "seeds": [0], "protocol": "p",
        "evaluations": [Path(trained.json("eval")["folder"]).name],
    }  # fmt: skip
    table.write_text(json.dumps({"rows": [row]}))
    ended = subprocess.run(
        [sys.executable, SCRIPT, trained.root, table, "baseline-tiny", "baseline-tiny"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=ENVIRONMENT,
    )
    first, total, *_ = ended.stdout.splitlines()
    assert first == "baseline-tiny less baseline-tiny, 1 seeds; p", ended.stderr
    trained("cache", "rm", "evaluation")
    again = subprocess.run(ended.args, capture_output=True, text=True, cwd=PROJECT, env=ENVIRONMENT)
    assert again.returncode == 1 and again.stderr.startswith("found no evaluation ")
    assert total.startswith("all: 12 queries of ") and total.endswith("AP +0.0 (+0.0 to +0.0)")
