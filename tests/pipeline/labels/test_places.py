"""Keys in little memory, maps read without opening HDF5, shards read once: counted, not timed."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels import maps, writing
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.places import Places
from pipeline.labels.shards import Shard
from pipeline.labels.writing import MapWriter, Stored
from tests.pipeline.labels.test_maps import LIP, SIZE, add, assert_stored, content

TWINS = ["plumless", "buckeroo"]  # two words of one CRC-32


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), st.text())
def test_it_finds_what_a_list_finds(keys: list[str], other: str) -> None:
    places = Places()
    places.extend(keys[:3])
    assert all(places.find(key) is not None for key in keys[:3])  # and goes on after a look-up
    places.extend(keys[3:])
    assert list(places) == keys and len(places) == len(keys)
    for key in (*keys, other):
        assert places.find(key) == (keys.index(key) if key in keys else None)
    again = [at for at, key in enumerate(keys) if key in keys[:at]]
    assert places.repeated() == (again[0] if again else None)


def test_equal_sums_are_not_equal_keys() -> None:
    assert len({zlib.crc32(word.encode()) for word in TWINS}) == 1
    places = Places()
    places.extend(TWINS)
    assert [places.find(word) for word in TWINS] == [0, 1] and places.repeated() is None
    places.extend(["x", TWINS[1]])
    assert places.repeated() == 3 and places.find(TWINS[1]) == 1


def test_half_a_letter_is_no_key() -> None:
    places = Places()
    places.extend(["a"])
    assert places.find("\ud800") is None


def test_a_key_takes_its_letters_and_twenty_bytes() -> None:
    keys = [f"bounding_box_test/{n:08}_c1s1_000.jpg" for n in range(20_000)]
    tracemalloc.start()
    places = Places()
    places.extend(keys)
    assert places.find(keys[77]) == 77
    held = tracemalloc.get_traced_memory()[0] / len(keys)
    tracemalloc.stop()
    assert held < len(keys[0]) + 28  # of which growing arrays have some in reserve


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that HDF5 opens, one after another."""
    names: list[str] = []

    class Counted(Shard):
        def __init__(self, path: Path) -> None:
            names.append(path.name)
            super().__init__(path)

    monkeypatch.setattr(maps, "Shard", Counted)
    return names


def test_reading_at_random_opens_each_shard_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    """Of a million images nearly every map lies in another shard than those that may stay open."""
    monkeypatch.setattr(writing, "SHARD_IMAGES", 2)
    monkeypatch.setattr(maps, "OPEN_SHARDS", 3)
    keys = [f"{n}" for n in range(40)]
    with MapWriter(tmp_path, LIP, {}, SIZE) as writer:
        for key in keys:
            add(writer, key)
    reader = LabelMapReader(tmp_path)
    assert len(opened) == 20
    for n in np.random.default_rng(0).integers(0, 40, 300):
        assert np.array_equal(reader[keys[n]][0], content(keys[n])[0])
    assert len(opened) == 40


def test_a_writer_lists_its_folder_once_and_reads_no_shard_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, read = [], []
    monkeypatch.setattr(writing, "SHARD_IMAGES", 2)
    monkeypatch.setattr(writing, "shards", lambda folder: listed.append(folder) or [])
    monkeypatch.setattr(writing, "keys_of", lambda shard: read.append(shard) or [])
    with MapWriter(tmp_path, LIP, {}, SIZE) as writer:
        for n in range(30):
            add(writer, f"{n}")
    assert (len(listed), read) == (1, [])
    assert len(list(tmp_path.iterdir())) == 15


def test_chunks_of_one_process_read_no_shard_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a cluster has a writer for every shard: each used to read all that there were."""
    read: list[str] = []
    keys_of = writing.keys_of
    monkeypatch.setattr(writing, "keys_of", lambda s: read.append(s.name) or keys_of(s))
    with MapWriter(tmp_path, LIP, {}, SIZE) as writer:
        add(writer, "before")
    ours, others = Stored(tmp_path, first=1), Stored(tmp_path, first=1)
    for n in range(8):
        with MapWriter(tmp_path, LIP, {}, SIZE, stored=(ours, others)[n % 2]) as writer:
            add(writer, f"{n}")
            add(writer, "of both")
    # Of the four shards of the one and the four of the other, each has read the other's.
    assert sorted(read) == sorted(f"maps-{n:05}.h5" for n in range(1, 8))
    assert_stored(tmp_path, ["before", "of both", *map(str, range(8))])


def test_a_hole_in_the_numbers_is_no_end(tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        with MapWriter(tmp_path, LIP, {}, SIZE) as writer:
            add(writer, key)
    (tmp_path / "maps-00001.h5").unlink()
    with MapWriter(tmp_path, LIP, {}, SIZE) as writer:
        for key in ("c", "b"):
            add(writer, key)
    assert_stored(tmp_path, ["a", "c", "b"])
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "maps-00003.h5"
