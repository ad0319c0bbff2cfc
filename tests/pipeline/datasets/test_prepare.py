from __future__ import annotations

import errno
import http.server
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets import roots
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fingerprints import fingerprint
from pipeline.datasets.index import read_index
from pipeline.datasets.manifest import Archive, Manifest
from pipeline.datasets.roots import prepare_root, registered_root
from pipeline.datasets.sources import index_params
from pipeline.datasets.work import index
from pipeline.terminal.errors import ReidpipeError

MARKET = {
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000451_03.jpg",
    "bounding_box_test/0001_c2s1_000001_00.jpg",
    "bounding_box_test/0000_c2s1_000002_00.jpg",
    "bounding_box_test/-1_c2s1_000003_00.jpg",
    "query/0001_c1s1_001051_00.jpg",
}


def picture(name: str, format: str = "JPEG") -> bytes:
    noise = np.random.default_rng(list(name.encode())).integers(0, 256, (32, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def tree(root: Path, names: set[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(name))
    return root


def zipped(path: Path, names: set[str], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in sorted(names):
            file.writestr(prefix + name, picture(name))
    return path


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No datasets of the machine's owner: neither by environment nor by ./data."""
    for name in roots.DATA_FOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """Address of a local server for the files in ``tmp_path / "published"``."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def altered(monkeypatch: pytest.MonkeyPatch, dataset: str, **fields: Any) -> None:
    """Replace fields of one dataset's manifest for this test."""
    real = load_manifest

    def load(name: str) -> Manifest:
        manifest = real(name)
        return manifest.model_copy(update=fields) if manifest.id == dataset else manifest

    monkeypatch.setattr(roots, "load_manifest", load)


def run(workspace: Path, dataset: str, workers: int = 1) -> tuple[Path, dict[str, Any]]:
    folder = workspace / f"index-{workers}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    params = index_params(workspace, dataset)
    return folder, index(
        Job(folder=folder, params=params, inputs={}, workspace=workspace, workers=workers)
    )


def one_line(action: Callable[[], Any], *expected: str) -> str:
    with pytest.raises(ReidpipeError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    for text in expected:
        assert text in message
    return message


def test_a_typed_root_is_found_below_and_remembered(tmp_path: Path, workspace: Path) -> None:
    root = tree(tmp_path / "stuff" / "Market-1501-v15.09.15", MARKET)
    assert prepare_root("market1501", workspace, root=tmp_path / "stuff") == root
    assert registered_root(workspace, "market1501") == root
    assert prepare_root("market1501", workspace) == root


@pytest.mark.parametrize("variable", ["REIDPIPE_DATA", "FASTREID_DATASETS", None])
@pytest.mark.parametrize("alias", ["Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15"])
def test_usual_places_are_searched(
    tmp_path: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    alias: str,
) -> None:
    base = tmp_path / ("data" if variable is None else "elsewhere")
    root = tree(base / alias, MARKET)
    if variable is not None:
        monkeypatch.setenv(variable, str(base))
    assert registered_root(workspace, "market1501") == root


def test_a_wrong_tree_in_one_place_does_not_hide_the_next(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIDPIPE_DATA", str(tmp_path / "first"))
    (tmp_path / "first" / "market1501").mkdir(parents=True)
    one_line(lambda: registered_root(workspace, "market1501"), "bounding_box_train")
    root = tree(tmp_path / "data" / "market1501", MARKET)
    assert registered_root(workspace, "market1501") == root


def test_nothing_found_says_where_it_looked_and_what_to_type(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIDPIPE_DATA", "/nowhere")
    for action in (registered_root, lambda w, d: prepare_root(d, w)):
        one_line(
            lambda action=action: action(workspace, "market1501"),
            "$REIDPIPE_DATA=/nowhere, ./data",
            "Market-1501-v15.09.15",
            "$FASTREID_DATASETS not set",
            "reidpipe prepare market1501 --root DIR",
        )
    message = one_line(lambda: registered_root(workspace, "oxford_pets"), "to fetch it")
    assert "type `reidpipe prepare oxford_pets`" in message


def test_a_moved_folder_is_told(tmp_path: Path, workspace: Path) -> None:
    root = tree(tmp_path / "here", MARKET)
    prepare_root("market1501", workspace, root=root)
    root.rename(tmp_path / "there")
    one_line(lambda: registered_root(workspace, "market1501"), str(root), "gone", "--root DIR")


def test_a_withdrawn_dataset_is_read_but_never_sought(tmp_path: Path, workspace: Path) -> None:
    message = one_line(lambda: prepare_root("dukemtmc_reid", workspace), "never fetched")
    assert "://" not in message
    names = {"bounding_box_train/0001_c1_f0044158.jpg", "query/0005_c2_f0046985.jpg",
             "bounding_box_test/0005_c5_f0046985.jpg"}  # fmt: skip
    root = tree(tmp_path / "duke", names)
    assert prepare_root("dukemtmc_reid", workspace, root=root) == root


def test_an_archive_is_verified_unpacked_and_found_below(tmp_path: Path, workspace: Path) -> None:
    names = {"train/001/01_1.png", "val/query/004/01_1.png", "val/gallery/004/02_1.png"}
    archive = zipped(tmp_path / "col.zip", names, "some/data/")
    root = prepare_root("col780", workspace, archive=archive)
    assert root == workspace / "datasets" / "col780" / "files" / "some" / "data"
    before = (root / "train/001/01_1.png").stat().st_ino
    assert prepare_root("col780", workspace, archive=archive) == root
    assert (root / "train/001/01_1.png").stat().st_ino == before
    zipped(archive, {*names, "train/002/01_1.png"}, "some/data/")
    killed = workspace / "datasets" / "col780" / ".files.new.tmp-1"
    killed.mkdir()
    prepare_root("col780", workspace, archive=archive)
    assert (root / "train/002/01_1.png").is_file()
    assert not killed.exists()


def test_a_wrong_archive_is_refused(tmp_path: Path, workspace: Path) -> None:
    archive = zipped(tmp_path / "Market-1501-v15.09.15.zip", MARKET)
    one_line(
        lambda: prepare_root("market1501", workspace, archive=archive),
        "found md5", "expected 65005ab7d12ec1c44de4eeafe813e68a", "--root DIR",
    )  # fmt: skip
    one_line(
        lambda: prepare_root("market1501", workspace, archive=tmp_path / "gone.zip"),
        "found no file",
    )
    one_line(
        lambda: prepare_root("oxford_pets", workspace, archive=archive),
        "expected 791918971", "not the published images.tar.gz",
    )  # fmt: skip
    one_line(
        lambda: prepare_root("imagenet", workspace, archive=archive),
        "archives alone are not its tree; expected a folder with images/train, images/val",
    )
    one_line(
        lambda: prepare_root("market1501", workspace, root=tmp_path, archive=archive), "found both"
    )
    assert not workspace.exists() or not list(workspace.rglob("*.jpg"))


def test_a_free_dataset_is_fetched_unpacked_and_registered(
    tmp_path: Path, workspace: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "published" / "free.zip", MARKET, "free/")
    wanted = Archive(
        name="free.zip",
        size=archive.stat().st_size,
        urls=("http://127.0.0.1:9/dead", f"{published}/free.zip"),
    )
    altered(monkeypatch, "market1501", policy="direct", archives=(wanted,))
    monkeypatch.setattr("pipeline.datasets.fetch.time.sleep", lambda seconds: None)
    root = prepare_root("market1501", workspace)
    assert root == workspace / "datasets" / "market1501" / "files" / "free"
    assert registered_root(workspace, "market1501") == root
    archive.unlink()
    assert prepare_root("market1501", workspace) == root


def test_lists_are_fetched_for_a_dataset_built_on_another(
    tmp_path: Path, workspace: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {
        "train": "0001_c1_f0044158.jpg", "query": "0005_c2_f0046985.jpg",
        "gallery": "0005_c5_f0046985.jpg",
    }  # fmt: skip
    names = {f"bounding_box_train/{images['train']}", "bounding_box_train/0002_c1_f0000001.jpg",
             f"bounding_box_test/{images['query']}", f"bounding_box_test/{images['gallery']}",
             "query/0009_c2_f0046985.jpg"}  # fmt: skip
    for split, image in images.items():
        (tmp_path / "published" / f"{split}.list").write_text(image + "\n")
    archives = tuple(
        Archive(name=f"{s}.list", content="lists", urls=(f"{published}/{s}.list",)) for s in images
    )
    altered(monkeypatch, "occluded_duke", archives=archives)
    root = tree(tmp_path / "duke", names)
    prepare_root("dukemtmc_reid", workspace, root=root)
    assert prepare_root("occluded_duke", workspace) == root
    folder, _ = run(workspace, "occluded_duke")
    assert {row.split: row.path for row in read_index(folder).rows} == {
        "train": f"bounding_box_train/{images['train']}",
        "query": f"bounding_box_test/{images['query']}",
        "gallery": f"bounding_box_test/{images['gallery']}",
    }


def test_market_rows(tmp_path: Path, workspace: Path) -> None:
    prepare_root("market1501", workspace, root=tree(tmp_path / "m", MARKET))
    folder, summary = run(workspace, "market1501")
    rows = {row.path: row for row in read_index(folder).rows}
    assert set(rows) == {name for name in MARKET if "-1_" not in name}
    row = rows["query/0001_c1s1_001051_00.jpg"]
    assert (row.pid, row.camid, row.frame, row.width, row.height) == (1, 0, 1051, 16, 32)
    assert summary["dropped"] == {"junk identity -1": 1}
    example = "bounding_box_test/-1_c2s1_000003_00.jpg"
    assert f"left out: 1 images (junk identity -1), such as {example}" in summary["lines"]
    assert any(line.startswith("error: train has 1 ids, expected 751") for line in summary["lines"])


def test_damaged_images_are_left_out_counted_and_named(tmp_path: Path, workspace: Path) -> None:
    root = tree(tmp_path / "mine", {f"{pid}/{n}.jpg" for pid in "ab" for n in range(4)})
    cut, empty = root / "a" / "2.jpg", root / "b" / "0.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    empty.write_bytes(b"")
    (root / "a" / "1.jpg").write_bytes(picture("x", "PNG"))
    prepare_root("folder", workspace, root=root)
    folder, summary = run(workspace, "folder")
    assert summary["damaged"] == ["a/2.jpg", "b/0.jpg"]
    assert summary["images"] == 6 == len(read_index(folder).rows)
    text = "\n".join(summary["lines"])
    assert "warning: 2 damaged images are left out:" in text
    assert "a/2.jpg" in text and "b/0.jpg" in text
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"")
    one_line(lambda: run(workspace, "folder"), "no whole image among 8", "a/0.jpg")


def test_workers_do_not_change_the_table(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.images.work.WORTHWHILE", 1)
    names = {f"{pid:03}/{n}.jpg" for pid in range(10) for n in range(15)}
    prepare_root("folder", workspace, root=tree(tmp_path / "mine", names))
    one, first = run(workspace, "folder", workers=1)
    two, second = run(workspace, "folder", workers=2)
    assert (one / "index.csv").read_bytes() == (two / "index.csv").read_bytes()
    assert first == second


def test_a_rule_for_own_images_is_remembered(tmp_path: Path, workspace: Path) -> None:
    root = tree(tmp_path / "mine", {"p7_k1.jpg", "p7_k2.jpg"})
    rule = r"p(?P<pid>\d+)_k(?P<camid>\d+)\.jpg"
    prepare_root("folder", workspace, root=root, rule=rule)
    folder, _ = run(workspace, "folder")
    assert {(row.pid, row.camid) for row in read_index(folder).rows} == {(7, 1), (7, 2)}
    prepare_root("folder", workspace)
    assert index_params(workspace, "folder")["rule"] == rule
    one_line(lambda: prepare_root("folder", workspace, root=tmp_path / "gone"), "found nothing at")


def test_full_disk_leaves_no_table(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_root("folder", workspace, root=tree(tmp_path / "mine", {"a/1.jpg", "b/1.jpg"}))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(workspace, "folder")
    assert list((workspace / "index-1").iterdir()) == []


def test_fingerprint_sees_every_change_and_no_clutter(tmp_path: Path) -> None:
    root = tree(tmp_path / "mine", {"a/1.jpg", "b/1.jpg"})
    first = fingerprint(root)
    (root / ".DS_Store").write_bytes(b"x")
    (root / "a" / "._1.jpg").write_bytes(b"x")
    assert fingerprint(root) == first
    seen = {first}
    path = root / "a" / "1.jpg"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    seen.add(fingerprint(root))
    path.write_bytes(b"longer than before" * 1000)
    seen.add(fingerprint(root))
    path.rename(root / "a" / "2.jpg")
    seen.add(fingerprint(root))
    (root / "b" / "2.jpg").write_bytes(b"")
    seen.add(fingerprint(root))
    assert len(seen) == 5
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(root / "nothing")
    assert fingerprint(root) == fingerprint(root)


def test_a_changed_tree_asks_for_another_index(tmp_path: Path, workspace: Path) -> None:
    root = tree(tmp_path / "mine", {"a/1.jpg", "b/1.jpg"})
    prepare_root("folder", workspace, root=root)
    before = index_params(workspace, "folder")
    assert before == index_params(workspace, "folder")
    (root / "b" / "1.jpg").write_bytes(picture("other"))
    assert index_params(workspace, "folder") != before


def test_real_crops(col780: Path, workspace: Path) -> None:
    prepare_root("col780", workspace, root=col780.parent)
    folder, summary = run(workspace, "col780")
    assert [tuple(entry[name] for name in ("subset", "ids", "images", "cameras"))
            for entry in summary["counts"]] == [
        ("train", 62, 992, 2), ("query", 12, 28, 2), ("gallery", 12, 181, 2),
    ]  # fmt: skip
    assert summary["problems"] == summary["damaged"] == summary["unmatched_queries"] == []
    assert len(summary["query_in_gallery"]) == 17
    assert summary["repeated"] == {"train": [["train/085/01_4.png", "train/085/01_5.png"]]}
    assert all("    " not in line for line in summary["lines"])
    row = read_index(folder).rows[0]
    assert (row.width, row.height) == (48, 128)
    _, holdout = run(workspace, "col780:holdout-a")
    assert len(holdout["query_in_gallery"]) == 17
    keys = [row.key for row in read_index(workspace / "index-1").split("query")]
    assert sum(key.endswith("@query") for key in keys) == 17


def test_module_needs_no_torch() -> None:
    code = "import sys, pipeline.datasets.work; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
