"""The label-map cache: exact read-back, damage found and named, kills that cost one shard."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels import maps, shards, writing
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import CIHP, LIP
from pipeline.labels.shards import verify
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError
from tests.finished import finished_keys

SIZE = (6, 4)


def opened(shard: Path) -> Any:
    """The shard as h5py shows it (whose types no checker can follow)."""
    return h5py.File(shard)


def content(key: str) -> tuple[np.ndarray, np.ndarray]:
    """A map that depends on its key alone."""
    rng = np.random.default_rng(list(key.encode()))
    return rng.integers(0, 20, SIZE, dtype=np.uint8), rng.random(SIZE, dtype=np.float32)


def add(writer: MapWriter, key: str) -> None:
    label, sure = content(key)
    writer.add(key, label, sure, source_size=(128, 48), source_digest="ab" * 32)


def fill_folder(folder: Path, keys: list[str]) -> None:
    with MapWriter(folder, LIP, {"model": "test", "scales": [1.0]}, SIZE) as writer:
        for key in keys:
            add(writer, key)


def assert_stored(folder: Path, keys: list[str]) -> None:
    reader = LabelMapReader(folder)
    assert sorted(reader.keys) == sorted(keys)
    for key in keys:
        label, sure = content(key)
        stored, p = reader[key]
        assert stored.dtype == np.uint8 and p.dtype == np.float32
        assert np.array_equal(stored, label)
        assert np.abs(p - sure).max() <= 0.5 / 15 + 1e-6


def test_shards_follow_the_documented_layout(tmp_path: Path):
    keys = [f"train/{n:04d}.png" for n in range(300)]
    fill_folder(tmp_path, keys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps-00000.h5", "maps-00001.h5"]
    with opened(tmp_path / "maps-00000.h5") as file:
        assert file["label"].shape == (256, *SIZE) and file["label"].dtype == np.uint8
        assert file["label"].chunks == (1, *SIZE)
        assert file["label"].compression == "gzip" and file["label"].compression_opts == 1
        assert file["confidence"].dtype == np.uint8 and int(file["confidence"][:].max()) <= 15
        assert file["key"][3] == b"train/0003.png"
        assert file["source_size"][0].tolist() == [128, 48]
        assert file["source_digest"][0].tobytes() == bytes.fromhex("ab" * 16)
        assert file["checksum"].dtype == np.uint32
        assert file.attrs["model"] == "test" and file.attrs["scales"] == "[1.0]"
    assert_stored(tmp_path, keys)
    reader = LabelMapReader(tmp_path)
    assert reader.label_set == LIP and len(reader) == 300 and reader.size == SIZE
    assert reader.source_digest(keys[0]) == "ab" * 16
    labels, sure = reader.read(keys[250:260])
    assert labels.shape == (10, *SIZE) and np.array_equal(labels[7], content(keys[257])[0])
    assert verify(tmp_path) == []
    assert list(reader.keys) == list(reader.keys()) == list(reader) == keys
    assert np.array_equal(dict(reader)[keys[5]][0], content(keys[5])[0])  # type: ignore[call-overload]


def test_confidence_is_stored_in_fifteenths(tmp_path: Path):
    values = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    with MapWriter(tmp_path, LIP, size=SIZE) as writer:
        writer.add("a", np.zeros(SIZE, np.uint8), values, source_size=(1, 1), source_digest="00")
    assert np.array_equal(
        LabelMapReader(tmp_path)["a"][1], np.rint(values * 15).astype(np.float32) / 15
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda s: "\0" not in s), unique=True,
                min_size=1, max_size=6))  # fmt: skip
def test_any_key_reads_back(tmp_path_factory: pytest.TempPathFactory, keys: list[str]):
    folder = tmp_path_factory.mktemp("maps")
    fill_folder(folder, keys)
    assert_stored(folder, keys)


def test_a_second_writer_appends_and_keys_stay_unique(tmp_path: Path):
    fill_folder(tmp_path, ["a", "b"])
    before = (tmp_path / "maps-00000.h5").read_bytes()
    fill_folder(tmp_path, ["b", "c"])
    assert (tmp_path / "maps-00000.h5").read_bytes() == before
    assert finished_keys(tmp_path) == {"a", "b", "c"}
    assert_stored(tmp_path, ["a", "b", "c"])


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    fill_folder(tmp_path / "one", ["a", "b"])
    fill_folder(tmp_path / "two", ["a", "b"])
    one, two = (tmp_path / name / "maps-00000.h5" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_wrong_maps_are_refused(tmp_path: Path):
    with MapWriter(tmp_path, LIP, size=SIZE) as writer:
        label, sure = content("a")
        facts = {"source_size": (1, 1), "source_digest": "00"}
        with pytest.raises(ValueError, match="shape"):
            writer.add("a", label[:3], sure, **facts)
        with pytest.raises(ValueError, match="below 20"):
            writer.add("a", np.full(SIZE, 20, np.uint8), sure, **facts)
        with pytest.raises(ValueError, match="NaN"):
            writer.add("a", label, np.full(SIZE, np.nan), **facts)
        writer.add("a", label, sure, **facts)
        with pytest.raises(ValueError, match="twice"):
            writer.add("a", label, sure, **facts)


def test_a_failed_block_stores_nothing_unfinished(tmp_path: Path):
    with pytest.raises(RuntimeError), MapWriter(tmp_path, LIP, size=SIZE) as writer:
        add(writer, "a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_missing_maps_are_named(tmp_path: Path):
    with pytest.raises(ReidpipeError, match="no label maps"):
        LabelMapReader(tmp_path)
    fill_folder(tmp_path, ["a"])
    with pytest.raises(ReidpipeError, match="no label map of x.png") as caught:
        LabelMapReader(tmp_path)["x.png"]
    assert isinstance(caught.value, KeyError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flip"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str):
    keys = [f"{n}" for n in range(300)]
    fill_folder(tmp_path, keys)
    shard = tmp_path / "maps-00001.h5"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "text":
        shard.write_bytes(b"not an HDF5 file")
    else:
        with opened(shard) as file:
            chunk = file["label"].id.get_chunk_info(20)
        data[chunk.byte_offset + chunk.size // 2] ^= 0xFF
        shard.write_bytes(data)
    assert verify(tmp_path) == ["maps-00001.h5"]
    if damage == "flip":
        with pytest.raises(ReidpipeError, match="maps-00001.h5"):
            LabelMapReader(tmp_path).read(keys)
    else:
        with pytest.raises(ReidpipeError, match="maps-00001.h5"):
            finished_keys(tmp_path)


@pytest.mark.parametrize("name", ["label", "confidence"])
def test_maps_of_another_size_than_any_are_damage(name: str, tmp_path: Path):
    fill_folder(tmp_path, ["a", "b"])
    (shard,) = shards.shards(tmp_path)
    with h5py.File(shard, "r+") as file:
        del file[name]
        huge = {"shape": (2, 100_000, 100_000), "chunks": (1, 1000, 1000)}
        file.create_dataset(name, dtype="u1", compression="gzip", **huge)
    with pytest.raises(ReidpipeError, match="100000"):
        LabelMapReader(tmp_path)


def test_repeated_keys_and_mixed_label_sets_are_refused(tmp_path: Path):
    fill_folder(tmp_path / "one", ["a", "b"])
    second = tmp_path / "one" / "maps-00001.h5"
    second.write_bytes((tmp_path / "one" / "maps-00000.h5").read_bytes())
    assert verify(tmp_path / "one") == ["maps-00001.h5"]
    with pytest.raises(ReidpipeError, match="repeats a"):
        LabelMapReader(tmp_path / "one")
    with MapWriter(tmp_path / "two", CIHP, size=SIZE) as writer:
        add(writer, "c")
    second.write_bytes((tmp_path / "two" / "maps-00000.h5").read_bytes())
    with pytest.raises(ReidpipeError, match="label set differs"):
        LabelMapReader(tmp_path / "one")


def _read_in_child(reader: LabelMapReader, key: str, queue) -> None:
    queue.put(reader[key])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_crosses_processes(tmp_path: Path, method: str):
    fill_folder(tmp_path, ["a", "b"])
    reader = LabelMapReader(tmp_path)
    expected = reader["a"]  # a handle is open before the fork
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, "b", queue))
    child.start()
    label, _ = queue.get(timeout=60)
    child.join()
    assert np.array_equal(label, content("b")[0])
    assert np.array_equal(reader["a"][0], expected[0])
    assert np.array_equal(pickle.loads(pickle.dumps(reader))["b"][0], label)


def test_few_shards_stay_open_and_threads_may_share(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_IMAGES", 2)
    monkeypatch.setattr(maps, "OPEN_SHARDS", 3)
    keys = [f"{n}" for n in range(20)]
    fill_folder(tmp_path, keys)
    reader = LabelMapReader(tmp_path)
    failures: list[str] = []

    def work(seed: int) -> None:
        for n in np.random.default_rng(seed).integers(0, 20, 60):
            if not np.array_equal(reader[keys[n]][0], content(keys[n])[0]):
                failures.append(keys[n])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not reader._open
    assert {reader.source_size(key) for key in keys} == {(128, 48)} and len(reader._open) == 3
    reader.close()
    assert np.array_equal(reader["3"][0], content("3")[0])


WRITER = """
    import sys
    from pathlib import Path
    from pipeline.labels import shards, writing
    from tests.pipeline.labels.test_maps import add, finished_keys, SIZE
    from pipeline.labels.sets import LIP
    writing.SHARD_IMAGES = 16
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    done = finished_keys(folder)
    with writing.MapWriter(folder, LIP, size=SIZE) as writer:
        for n in range(first, last):
            if f"{n}" not in done:
                add(writer, f"{n}")
"""


def _start_writer(folder: Path, first: int, last: int) -> subprocess.Popen:
    code = textwrap.dedent(WRITER)
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(first), str(last)])


def test_two_processes_never_collide(tmp_path: Path):
    # Overlapping ranges: images 40..79 are made by both and must be stored once.
    writers = [_start_writer(tmp_path, 0, 80), _start_writer(tmp_path, 40, 120)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert verify(tmp_path) == []
    assert_stored(tmp_path, [f"{n}" for n in range(120)])


@pytest.mark.slow
def test_sigkill_costs_only_the_unwritten_images(tmp_path: Path):
    keys = [f"{n}" for n in range(4000)]
    confirmed: dict[str, bytes] = {}
    for round_ in range(1, 6):
        writer = _start_writer(tmp_path, 0, 4000)
        deadline = time.monotonic() + 60
        while len(shards.shards(tmp_path)) < 7 * round_ and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.003 * round_)  # strike at different points of a shard's making
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(timeout=60) == -signal.SIGKILL
        assert verify(tmp_path) == []
        for name, data in confirmed.items():
            assert (tmp_path / name).read_bytes() == data
        confirmed = {shard.name: shard.read_bytes() for shard in shards.shards(tmp_path)}
    (tmp_path / ".maps-00099.h5.tmp-1").write_bytes(b"left by a dead writer")
    assert _start_writer(tmp_path, 0, 4000).wait(timeout=60) == 0
    assert_stored(tmp_path, keys)
    assert len(shards.shards(tmp_path)) == 250
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]  # noqa: PTH208
