"""The official draws of SYSU-MM01: fetched where the tree has none, and part of the index's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fetch import FetchError
from pipeline.datasets.layouts.orders import published_draws
from pipeline.datasets.manifest import Orders
from pipeline.datasets.roots import lists_folder, prepare_root
from pipeline.datasets.sources import index_params
from tests import trees

NAME = "rand_perm_cam.mat"
ORDERS = Orders(seeds=(0,), published=NAME)


def sysu(folder: Path) -> Path:
    root = folder / "SYSU-MM01"
    for camera in range(1, 7):
        trees.picture(root / f"cam{camera}" / "0001" / "0001.jpg")
    trees.lines(root / "exp" / "test_id.txt", ["1"])
    return root


def test_draws_are_looked_for_in_the_tree_and_then_among_fetched_lists(tmp_path: Path):
    root, lists = sysu(tmp_path), tmp_path / "lists"
    lists.mkdir()
    assert published_draws(root, ORDERS, lists) is None
    (lists / NAME).touch()
    assert published_draws(root, ORDERS, None) is None
    assert published_draws(root, ORDERS, lists) == lists / NAME
    (root / "data_split").mkdir()
    (root / "data_split" / NAME).touch()
    assert published_draws(root, ORDERS, lists) == root / "data_split" / NAME
    assert published_draws(root, Orders(seeds=(0,)), lists) is None


def test_prepare_fetches_the_draws_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def fetched(manifest: Any, folder: Path, **options: Any) -> list[Path]:
        asked.append(options["content"])
        folder.mkdir(parents=True)
        (folder / NAME).write_bytes(b"draws")
        return [folder / NAME]

    monkeypatch.setattr("pipeline.datasets.roots.fetch_archives", fetched)
    root, workspace = sysu(tmp_path), tmp_path / "workspace"
    assert prepare_root("sysu_mm01", workspace, root=root) == root
    lists = lists_folder(load_manifest("sysu_mm01"), workspace)
    assert lists is not None and (lists / NAME).read_bytes() == b"draws"
    prepare_root("sysu_mm01", workspace)
    assert asked == [("lists",)]


def test_without_a_network_the_tree_is_prepared_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def offline(*_: Any, **__: Any) -> list[Path]:
        raise FetchError("found no network")

    monkeypatch.setattr("pipeline.datasets.roots.fetch_archives", offline)
    root, workspace = sysu(tmp_path), tmp_path / "workspace"
    assert prepare_root("sysu_mm01", workspace, root=root) == root
    assert lists_folder(load_manifest("sysu_mm01"), workspace) is None
    assert "found no network" in caplog.text
    # A file put there later makes another index.
    before = index_params(workspace, "sysu_mm01")
    (root / "exp" / NAME).touch()
    assert index_params(workspace, "sysu_mm01")["fingerprint"] != before["fingerprint"]


def test_lists_beside_the_root_are_part_of_the_key(tmp_path: Path):
    trees.agreid_v2(tmp_path, doubled=True, lists=False)
    workspace = tmp_path / "workspace"
    prepare_root("agreid_v2", workspace, root=tmp_path / "AG-ReID.v2")
    without = index_params(workspace, "agreid_v2")
    trees.lines(tmp_path / "AG-ReID.v2" / "exp1_aerial_to_cctv.txt", ["query/a/b.jpg"])
    assert "beside_fingerprint" not in without
    assert index_params(workspace, "agreid_v2") == {
        **without,
        "beside_fingerprint": index_params(workspace, "agreid_v2")["beside_fingerprint"],
    }
