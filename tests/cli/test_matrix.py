"""``eval`` of several runs on several datasets: sources by targets."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console

PROTOCOLS = (
    "protocol: folder standard, excluded same-camera, 12 of 12 queries valid, 32x16, no flip, "
    "cosine distance; index "
)


@pytest.fixture(scope="module")
def two(
    session_console: Console, people: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Console, list[str]]:
    """Two runs and a second dataset of one's own, with the same people; all tests share them."""
    root = tmp_path_factory.mktemp("two") / "workspace"
    shutil.copytree(session_console.root, root)
    console = Console(root)
    console("prepare", "folder:other", "--root", people, "--size", "32x16", "--filter", "bilinear")
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    return console, [console.json(*words, "--seed", seed)["run"] for seed in ("0", "1")]


def test_sources_by_targets(two: tuple[Console, list[str]]):
    console, names = two
    words = ("eval", *names, "--dataset", "folder", "--dataset", "folder:other")
    found = console.json(*words)
    assert [(f["run"], f["dataset"]) for f in found] == [
        (name, dataset) for name in names for dataset in ("folder", "folder:other")
    ]
    # Each cell is what one run on one dataset gives, the same artifact.
    for cell in found:
        assert console.json("eval", cell["run"], "--dataset", cell["dataset"]) == cell
    lines = console(*words).stdout.splitlines()
    for place, (title, figure) in enumerate((("mAP", "mAP"), ("Rank-1", "cmc"))):
        table = lines[5 * place : 5 * place + 5]
        assert table[0] == f"{title} (%):"
        assert table[1].split() == ["source", "run", "trained", "on", "folder", "folder:other"]
        for row, name in zip(table[3:], names, strict=True):
            values = [f[figure] if title == "mAP" else f[figure]["1"] for f in found
                      if f["run"] == name]  # fmt: skip
            assert row.split() == [name, "folder", *(f"{100 * value:.1f}" for value in values)]
    said = [line for line in lines if line.startswith("protocol: ")]
    assert len(said) == 2 and all("12 of 12 queries valid, 32x16, no flip" in s for s in said)
    assert said[0].startswith(PROTOCOLS)
    assert console.json("eval", *names, "--dataset", "folder,folder:other") == found


def test_runs_on_their_own_datasets_and_one_run_twice(two: tuple[Console, list[str]]):
    console, names = two
    found = console.json("eval", *names)
    assert [(f["run"], f["dataset"]) for f in found] == [(name, "folder") for name in names]
    assert isinstance(console.json("eval", names[0], names[0]), dict)  # one run is one


def test_reranked_figures_name_their_parameters_and_other_conditions_their_runs(
    two: tuple[Console, list[str]],
):
    console, names = two
    text = console("eval", *names, "--rerank").stdout
    assert "mAP (%), k-reciprocal re-ranking, k1 20, k2 6, lam 0.3:" in text
    other = (*TRAIN[2:], "--set", "input.size=[64,32]", "--device", "cpu")
    large = console.json("train", "baseline-tiny", "--dataset", "folder", *other)["run"]
    lines = console("eval", names[0], large).stdout.splitlines()
    said = [line for line in lines if line.startswith("protocol: ")]
    assert len(said) == 2
    assert ", 32x16," in said[0] and said[0].endswith(f"; {names[0]}")
    assert ", 64x32," in said[1] and said[1].endswith(f"; {large}")


@pytest.mark.slow
def test_a_report_of_all_cells(two: tuple[Console, list[str]]):
    console, names = two
    found = console.json("eval", names[0], "--dataset", "folder,folder:other", "--report")
    page = Path(found[0]["report"]).read_text(encoding="utf-8")
    assert found[0]["report"] == found[1]["report"]
    assert f"{names[0]} on folder:other" in page


def test_mistakes_are_told_before_any_work(
    two: tuple[Console, list[str]], monkeypatch: pytest.MonkeyPatch
):
    console, names = two
    monkeypatch.setattr("reid_train.evaluation.work.evaluate", lambda job: pytest.fail("works"))
    line = console.mistake(
        "eval", names[0], "--dataset", "folder,col780", "--protocol", "course", "--flip"
    )
    assert "col780" in line
    line = console.mistake("eval", *names, "--dataset", "folder,folder:other", "--protocol", "all")
    assert "found protocol 'all'" in line and "standard" in line
    assert "found no run 'nobody'" in console.mistake("eval", names[0], "nobody")
    assert "found an empty name in --dataset" in console.mistake("eval", "--dataset", "folder,")


def test_too_few_images_to_rerank_are_told_before_any_work(
    trained: Console, tmp_path: Path, people: Path, monkeypatch: pytest.MonkeyPatch
):
    # Three people: 6 queries and 12 gallery images are fewer than the 21 that k1 = 20 takes.
    folder = tmp_path / "three"
    shutil.copytree(people, folder)
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    test = sorted({row["pid"] for row in rows if row["split"] == "query"})[:3]
    kept = [row for row in rows if row["split"] == "train" or row["pid"] in test]
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(kept)
    trained("prepare", "folder:three", "--root", folder, "--size", "32x16", "--filter", "bilinear")
    monkeypatch.setattr("reid_train.evaluation.work.evaluate", lambda job: pytest.fail("works"))
    line = trained.mistake("eval", "--dataset", "folder:three", "--rerank", "--flip")
    assert "found 18 images for k1=20, k2=6; expected at least 21 images; leave out" in line
