"""open_gallery and its search: against a plain sort, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reid_train
from pipeline.artifacts import checked
from pipeline.terminal.errors import ReidpipeError
from reid_train.search import nearest as module
from reid_train.search.about import About, Threshold
from reid_train.search.gallery import Gallery, open_gallery
from reid_train.search.writing import write_gallery
from tests.replaced import flip

# Norms are whole numbers (3-4-5 triples and single entries), so that cosines which are equal on
# paper are often equal in float32 too.
ROWS = [(3, 4, 0, 0), (4, 3, 0, 0), (0, 5, 0, 0), (-3, 4, 0, 0), (0, 0, 2, 0), (6, 8, 0, 0)]


def about(count: int, **more: Any) -> About:
    values = {"model_key": "0123", "flip": False, "normalise": True}
    return About(names=[f"{n}.jpg" for n in range(count)], **{**values, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    features = np.array(ROWS, np.float32)
    said = about(
        len(ROWS),
        pids=[1, 1, 2, 2, 3, 3],
        camids=[0, None, 0, 1, 0, 1],
        threshold=Threshold(similarity=0.5, wanted_fpr=0.01, fpr=0.009, tpr=0.8),
        versions={"python": "3"},
        folders=["/photos"],
        folder=[0] * len(ROWS),
        sha256=["0" * 64] * len(ROWS),
    )
    write_gallery(tmp_path / "gallery", said, [features[:4], features[4:]])
    return tmp_path / "gallery"


def test_what_was_written_is_opened(folder: Path):
    found = reid_train.open_gallery(folder)
    assert found.names == [f"{n}.jpg" for n in range(6)] and len(found) == 6
    assert isinstance(found.features, np.memmap) and found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features, ROWS)
    assert found.pids is not None and found.camids is not None and found.about is not None
    assert found.pids.dtype == np.int64 and found.pids.tolist() == [1, 1, 2, 2, 3, 3]
    assert found.camids.tolist() == [0, None, 0, 1, 0, 1]
    assert found.about.threshold == Threshold(similarity=0.5, wanted_fpr=0.01, fpr=0.009, tpr=0.8)
    assert {path.name for path in folder.iterdir()} == {"features.npy", "gallery.json"}


def test_columns_that_are_not_known_are_none(folder: Path):
    write_gallery(folder, about(1), [np.ones((1, 2), np.float32)])
    found = open_gallery(str(folder))
    assert found.pids is None and found.camids is None


def test_search_gives_cosines_best_first(folder: Path):
    similarity, row = open_gallery(folder).search(np.array([[3, 4, 0, 0], [0, 0, 7, 0]]), top=3)
    assert (similarity.dtype, row.dtype) == (np.float32, np.int64)
    assert row.tolist() == [[0, 5, 1], [4, 0, 1]]
    np.testing.assert_allclose(similarity, [[1, 1, 0.96], [1, 0, 0]], atol=1e-6)


def test_fewer_rows_than_top_and_no_query(folder: Path):
    found = open_gallery(folder)
    similarity, row = found.search(np.ones((2, 4)), top=100)
    assert similarity.shape == row.shape == (2, 6)
    assert sorted(row[0].tolist()) == list(range(6))
    assert [part.shape for part in found.search(np.empty((0, 4)), top=3)] == [(0, 3), (0, 3)]
    empty = Gallery([], np.empty((0, 4), np.float32))
    assert [part.shape for part in empty.search(np.ones((2, 4)))] == [(2, 0), (2, 0)]


def plain(query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Cosines (M, n) in float64; those of a row of zeros are 0."""
    unit = [
        np.divide(rows, norms, out=np.zeros(rows.shape), where=norms > 0)
        for rows in (query.astype(np.float64), features.astype(np.float64))
        for norms in [np.linalg.norm(rows, axis=1, keepdims=True)]
    ]
    return unit[0] @ unit[1].T


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Queries and a gallery with rows that occur several times; top; rows of a block."""
    dims = draw(st.integers(1, 5))
    values = st.integers(-3, 3)
    kinds = draw(hnp.arrays(np.float32, (draw(st.integers(1, 6)), dims), elements=values))
    features = kinds[draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=40))]
    query = draw(hnp.arrays(np.float32, (draw(st.integers(0, 4)), dims), elements=values))
    return query, features, draw(st.integers(1, 45)), draw(st.sampled_from([1, 3, 7, 100]))


@settings(deadline=None, max_examples=200)
@given(cases())
def test_search_is_a_plain_sort(case: tuple[np.ndarray, np.ndarray, int, int]):
    query, features, top, block = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", block)
        found = Gallery([str(n) for n in range(len(features))], features)
        similarity, row = found.search(query, top=top)
    expected = plain(query, features)
    assert row.shape == similarity.shape == (len(query), min(top, len(features)))
    np.testing.assert_allclose(
        similarity, np.take_along_axis(expected, row, 1), atol=1e-6, err_msg="not of these rows"
    )
    best = -np.sort(-expected, axis=1)[:, : row.shape[1]]
    np.testing.assert_allclose(similarity, best, atol=1e-6, err_msg="not the best")
    # Equal rows have equal similarities: among them the first ones are chosen, in order.
    kind = np.unique(features, axis=0, return_inverse=True)[1].ravel()
    for places, values in zip(row, similarity, strict=True):
        assert (np.diff(values) <= 0).all()
        assert (np.diff(places)[np.diff(values) == 0] > 0).all()
        for each in set(kind[places].tolist()):
            chosen = places[kind[places] == each]
            np.testing.assert_array_equal(chosen, np.flatnonzero(kind == each)[: len(chosen)])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 16)).astype(np.float32)
    features[200:] = features[:100]
    found, query = Gallery([""] * 300, features), rng.normal(size=(5, 16))
    whole = found.search(query, top=50)
    for rows in (1, 64, 299):
        monkeypatch.setattr(module, "ROWS", rows)
        part = found.search(query, top=50)
        np.testing.assert_allclose(part[0], whole[0], atol=1e-6)
        np.testing.assert_array_equal(part[1], whole[1])


def test_search_of_a_large_gallery_keeps_memory(tmp_path: Path):
    """A hundred thousand rows are 51 MB on disk; what search allocates is far less."""
    import tracemalloc

    rng = np.random.default_rng(0)
    blocks = (rng.normal(size=(10_000, 128)).astype(np.float32) for _ in range(10))
    write_gallery(tmp_path, about(100_000), blocks)
    found = open_gallery(tmp_path)
    tracemalloc.start()
    similarity, row = found.search(found.features[[5, 99_999]], top=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row[:, 0].tolist() == [5, 99_999] and similarity[0, 0] == pytest.approx(1, abs=1e-6)
    assert peak < 12e6, peak


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.ones((2, 3)), ["(2, 3)", "(M, 4)"]),
        (np.ones(4), ["(4,)", "(M, 4)"]),
        (np.full((1, 4), np.nan), ["NaN or infinite"]),
        (np.full((1, 4), 1e300), ["NaN or infinite"]),
        ([["a", "b", "c", "d"]], ["type <U1"]),
    ],
    ids=["length", "one row", "nan", "beyond float32", "text"],
)
def test_features_that_fit_nothing_are_refused(folder: Path, features: Any, words: list[str]):
    with pytest.raises(ReidpipeError) as caught:
        open_gallery(folder).search(features)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize("top", [0, -1, 1.5, "3"])
def test_top_is_a_count(folder: Path, top: Any):
    with pytest.raises(ReidpipeError, match=f"found top={top}"):
        open_gallery(folder).search(np.ones((1, 4)), top=top)


def test_a_gallery_that_is_not_finite_names_the_image(folder: Path):
    features = np.array(ROWS, np.float32)
    features[3, 1] = np.inf
    write_gallery(folder, about(len(ROWS)), [features])
    with pytest.raises(ReidpipeError, match=r"NaN or infinite features of 3\.jpg \(row 3\)"):
        open_gallery(folder).search(np.ones((1, 4)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            dict.fromkeys(("pids", "camids", "folder", "sha256")) | {"names": ["a", "b"]},
            "found 6 rows",
        ),
        ({"names": ["a"] * 6}, "a name stands twice"),
        ({"names": 3}, "names: Input should be a valid list"),
        ({"pids": [1]}, "1 pids for 6 names"),
        ({"camids": ["0"] * 6}, r"camids\.0"),
        ({"flip": "no"}, "flip: "),
        ({"normalise": False}, "normalise: "),
        ({"threshold": {"similarity": float("nan")}}, r"threshold\.similarity: "),
        ({"sha256": ["0"] * 6}, r"sha256\.0"),
        ({"folder": [1] * 6}, "folder 1 of 1 folders"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_damaged_description_is_one_line(folder: Path, change: dict[str, Any], words: str):
    path = folder / "gallery.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReidpipeError, match=words) as caught:
        open_gallery(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"xx", b"{}", b"[1]", b"\xff"])
def test_a_description_that_is_none(folder: Path, content: bytes):
    (folder / "gallery.json").write_bytes(content)
    with pytest.raises(ReidpipeError, match=r"gallery\.json damaged"):
        open_gallery(folder)


def damage(folder: Path, how: str) -> None:
    path = folder / "features.npy"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no numbers")
    elif how == "doubles":
        np.save(path, np.ones((6, 4)))
    elif how == "three axes":
        np.save(path, np.ones((6, 4, 1), np.float32))
    elif how == "objects":
        np.save(path, np.array([None] * 6), allow_pickle=True)
    elif how == "archive":
        with path.open("wb") as file:
            np.savez(file, features=np.ones((6, 4), np.float32))


@pytest.mark.parametrize(
    "how", ["cut", "empty", "text", "doubles", "three axes", "objects", "archive"]
)
def test_damaged_features_are_one_line(folder: Path, how: str):
    damage(folder, how)
    with pytest.raises(ReidpipeError, match=r"features\.npy") as caught:
        open_gallery(folder)
    assert "\n" not in str(caught.value)


def test_features_that_are_others_are_told(folder: Path):
    flip(folder / "features.npy")
    with pytest.raises(ReidpipeError, match=r"other bytes in .*features\.npy") as caught:
        open_gallery(folder)
    assert "reidpipe embed again" in str(caught.value)


def test_a_gallery_of_before_digests_is_opened(folder: Path):
    path = folder / "gallery.json"
    said = json.loads(path.read_text())
    del said["features_sha256"]
    path.write_text(json.dumps(said))
    assert len(open_gallery(folder)) == len(ROWS)


def test_large_features_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checked, "NOTED", 4)
    monkeypatch.setattr(checked, "SETTLED", -1.0)
    open_gallery(folder)
    checked._digest.cache_clear()
    with monkeypatch.context() as nobody:
        nobody.setattr(checked.atomic, "sha256_file", lambda path: pytest.fail(f"read {path}"))
        open_gallery(folder)
    flip(folder / "features.npy")
    with pytest.raises(ReidpipeError, match="other bytes"):
        open_gallery(folder)


def test_foreign_folders_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ReidpipeError, match=r"found no gallery\.json in .* reidpipe embed"):
        open_gallery(tmp_path)
    with pytest.raises(ReidpipeError, match="found no folder .*nowhere"):
        open_gallery(tmp_path / "nowhere")
    (folder / "features.npy").unlink()
    with pytest.raises(ReidpipeError, match=r"found no features\.npy"):
        open_gallery(folder)


def test_a_failed_write_leaves_the_gallery_as_it_was(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="found 1 rows"):
        write_gallery(folder, about(2), [np.ones((1, 4), np.float32)])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_opening_and_searching_imports_no_torch(folder: Path):
    code = (
        "import sys, numpy, reid_train\n"
        "reid_train.open_gallery(sys.argv[1]).search(numpy.ones((1, 4)))\n"
        "raise SystemExit('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert finished.returncode == 0
