"""One writer at a time, whole files, and going on after a kill."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.images.originals import DamagedImage
from pipeline.terminal.errors import ReidpipeError
from reid_train.models import COSINE
from reid_train.search import extension as module
from reid_train.search import gallery, writing
from reid_train.search.about import About
from reid_train.search.encoder import Making
from reid_train.search.extension import extend, find_extension
from reid_train.search.gallery import open_gallery, read_gallery
from reid_train.search.people import images_at
from reid_train.search.threshold import Calibrated
from reid_train.search.writing import BLOCKS, LOCK, NEXT, one_writer, write_gallery

HOW = Making("0123", False, COSINE)


def about(count: int) -> About:
    names = [f"{n}.jpg" for n in range(count)]
    return About(names=names, model_key="0123", flip=False, normalise=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten files; what is in them is read by ``Counting`` alone."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.jpg").write_bytes(bytes([number]))
    return folder


class Counting:
    """An encoder whose features are the files' bytes; killed before its call ``until``."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.calls = until, []

    def __call__(self, paths: Sequence[Path]) -> tuple[np.ndarray, list[Path], dict[str, str]]:
        if len(self.calls) == self.until:
            raise KeyboardInterrupt
        self.calls.append([path.name for path in paths])
        read = [path for path in paths if path.read_bytes() != b"damaged"]
        if not read:
            raise DamagedImage("found damage")
        features = np.array([[path.read_bytes()[0], 1] for path in read], np.float32)
        return features, read, {str(p): "found damage" for p in paths if p not in read}


def embedded(folder: Path, photos: Path, encode: Counting) -> None:
    with one_writer(folder):
        before = read_gallery(folder) if (folder / "gallery.json").is_file() else None
        extension = find_extension(images_at(photos), before)
        extend(folder, extension, encode, how=HOW, calibrated=Calibrated())


def test_a_killed_embed_goes_on_where_it_was(photos: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)
    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path / "g", photos, Counting(until=2))
    with pytest.raises(ReidpipeError, match="where a reidpipe embed was stopped"):
        open_gallery(tmp_path / "g")
    # An image that has changed since is computed again, one of another model too.
    (photos / "1.jpg").write_bytes(b"\x63")
    again = Counting()
    embedded(tmp_path / "g", photos, again)
    assert again.calls == [["1.jpg", "6.jpg", "7.jpg"], ["8.jpg", "9.jpg"]]
    found = open_gallery(tmp_path / "g")
    assert found.names == [f"{n}.jpg" for n in range(10)]
    assert found.features[:, 0].tolist() == [0, 99, *range(2, 10)]
    assert not (tmp_path / "g" / BLOCKS).exists()


def test_blocks_of_another_model_or_cut_ones_are_not_used(
    photos: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(module, "BLOCK", 3)
    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path / "g", photos, Counting(until=2))
    blocks = tmp_path / "g" / BLOCKS
    (blocks / "0.json").write_text((blocks / "0.json").read_text().replace("0123", "4567"))
    (blocks / "1.npy").write_bytes((blocks / "1.npy").read_bytes()[:-4])
    again = Counting()
    embedded(tmp_path / "g", photos, again)
    assert [name for names in again.calls for name in names] == [f"{n}.jpg" for n in range(10)]


def test_a_block_of_damaged_images_stops_nothing(photos: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    for number in (0, 1, 5):
        (photos / f"{number}.jpg").write_bytes(b"damaged")
    embedded(tmp_path / "g", photos, Counting())
    assert open_gallery(tmp_path / "g").names == [f"{n}.jpg" for n in (2, 3, 4, 6, 7, 8, 9)]


def test_a_second_writer_waits_and_says_so(photos: Path, tmp_path: Path, caplog):
    folder, inside = tmp_path / "g", threading.Event()

    def first() -> None:
        with one_writer(folder):
            inside.set()
            time.sleep(0.3)
            write_gallery(folder, about(1), [np.ones((1, 2), np.float32)])

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with caplog.at_level(logging.WARNING), one_writer(folder):
        assert len(read_gallery(folder)) == 1
    thread.join()
    assert "is being written by another process: waiting" in caplog.text


def test_a_gallery_being_written_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gallery, "PATIENCE", 2)
    with (
        one_writer(tmp_path / "g"),
        pytest.raises(ReidpipeError, match="being written; expected a finished one") as caught,
    ):
        open_gallery(tmp_path / "g")
    assert "\n" not in str(caught.value)


def test_who_is_killed_between_two_files_has_written_both(tmp_path: Path, monkeypatch):
    folder = tmp_path / "g"
    write_gallery(folder, about(2), [np.zeros((2, 2), np.float32)])

    def killed(_: Path) -> None:
        (folder / NEXT["features.npy"]).replace(folder / "features.npy")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            write_gallery(folder, about(3), [np.ones((3, 2), np.float32)])
    monkeypatch.setattr(gallery, "PATIENCE", 1)
    with pytest.raises(ReidpipeError, match="type it again if it was stopped"):
        open_gallery(folder)
    with one_writer(folder):
        assert len(read_gallery(folder)) == 3
    assert open_gallery(folder).features.tolist() == [[1, 1]] * 3
    assert {path.name for path in folder.iterdir()} == {"features.npy", "gallery.json", LOCK}
