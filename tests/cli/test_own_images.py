"""Own images by several names, from ``prepare`` to an evaluation on each other."""

from __future__ import annotations

import json
from pathlib import Path

from tests import trees
from tests.cli.conftest import Console


def crops(root: Path, people: range) -> Path:
    trees.pictures(
        root, [f"cam{c}/{p:03d}/{i}.png" for c in (1, 2) for p in people for i in (1, 2)]
    )
    return root


def test_names_side_by_side_and_each_others_test(console: Console, tmp_path: Path):
    first = crops(tmp_path / "first", range(8))
    second = crops(tmp_path / "second", range(20, 26))
    told = console("prepare", "folder:shop", "--root", str(first), "--holdout", "3")
    assert "read as camera folders above identity folders" in told.output
    assert "held out 3 of 8 people for the test, drawn by seed 0; 5 are trained on" in told.output
    assert "--holdout 0.3" not in told.output
    told = console("prepare", "folder", "--root", str(second))
    assert "type reidpipe prepare folder --holdout 0.3" in told.output
    told = console("prepare", "folder:own", "--holdout", "1.0", "--json")
    counts = {row["subset"]: row["ids"] for row in json.loads(told.stdout)["counts"]}
    assert counts == {"query": 6, "gallery": 6}
    # What was asked for is remembered; asking again makes nothing.
    again = json.loads(console("prepare", "folder:shop", "--json").stdout)
    assert again["made"] == [] and again["dataset"] == "folder:shop"
    assert {row["subset"] for row in again["counts"]} == {"train", "query", "gallery"}

    train = ("train", "slicenet2", "--dataset", "folder:shop", "--set", "stages.0.epochs=1")
    assert console(*train).exit_code == 0
    for dataset in ("folder:shop", "folder:own", "folder"):
        metrics = json.loads(console("eval", "--dataset", dataset, "--json").stdout)
        assert metrics["dataset"] == {"folder:own": "folder"}.get(dataset, dataset)
        assert metrics["exclude"] == "same-camera"
        assert metrics["valid_queries"] == metrics["queries"] > 0


def test_without_cameras_the_own_image_alone_is_left_out(console: Console, tmp_path: Path):
    trees.pictures(tmp_path / "mine", [f"{p}/{i}.png" for p in range(6) for i in range(4)])
    console("prepare", "folder", "--root", str(tmp_path / "mine"), "--holdout", "0.5")
    console("train", "slicenet2", "--dataset", "folder", "--set", "stages.0.epochs=1")
    metrics = json.loads(console("eval", "--json").stdout)
    assert (metrics["exclude"], metrics["queries"], metrics["valid_queries"]) == (
        "same-image",
        3,
        3,
    )


def test_a_name_nobody_prepared_and_a_name_that_is_none(console: Console, tmp_path: Path):
    console("prepare", "folder:shop", "--root", str(crops(tmp_path / "first", range(4))))
    told = console("train", "slicenet2", "--dataset", "folder:yard", code=2)
    assert "no images of yours called folder:yard" in told.stderr
    assert "reidpipe prepare folder:yard --root DIR" in told.stderr
    told = console("prepare", "folder:../x", "--root", str(tmp_path), code=2)
    assert "found the name '../x'" in told.stderr
    told = console("prepare", "folder:shop", "--seed", "1", code=2)
    assert "found --seed and nothing to draw" in told.stderr
