"""Shards of another shape than ours: refused by name, never followed out of the file."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.labels.maps import LabelMapReader, MissingMap
from pipeline.labels.sets import LIP
from pipeline.labels.shards import DamagedShard, check_shard, deflate, inflate
from pipeline.labels.writing import MapWriter

SIZE = (6, 4)
LABEL = np.arange(24, dtype=np.uint8).reshape(SIZE) % 20
SURE = np.full(SIZE, 0.6, np.float32)


def shard(folder: Path, *, note: int = 0) -> Path:
    with MapWriter(folder, LIP, {"notes": "mine"}, SIZE) as writer:
        for key in ("a", "b"):
            writer.add(
                key, LABEL, SURE, source_size=(9, 7), source_digest="ab" * 32, note=note
            )  # fmt: skip
    return folder / "maps-00000.h5"


def change(path: Path, name: str, make: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        make(file)


def test_what_was_noted_is_read_where_it_means_the_same(tmp_path: Path):
    shard(tmp_path, note=5)
    reader = LabelMapReader(tmp_path)
    assert reader.note("a", "mine") == 5
    assert reader.note("a", "another rule") is None
    assert "notes" not in reader.made_by


def test_shards_of_older_versions_have_no_notes(tmp_path: Path):
    path = shard(tmp_path, note=5)
    change(path, "note", lambda _: None)
    reader = LabelMapReader(tmp_path)
    assert reader.note("a", "mine") is None
    assert np.array_equal(reader["a"][0], LABEL) and np.allclose(reader["a"][1], 0.6)


def test_maps_that_lie_otherwise_are_read_all_the_same(tmp_path: Path):
    path = shard(tmp_path)
    change(path, "label", lambda file: file.create_dataset("label", data=np.stack([LABEL, LABEL])))
    label, _ = LabelMapReader(tmp_path)["b"]
    assert np.array_equal(label, LABEL)
    label[0, 0] = 1  # a copy of one's own


def external(file: Any) -> None:
    file["label"] = h5py.ExternalLink("other.h5", "label")


def soft(file: Any) -> None:
    file["label"] = h5py.SoftLink("/confidence")


def raw(file: Any) -> None:
    file.create_dataset("label", (2, *SIZE), np.uint8, external=[("/etc/hostname", 0, 48)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2, *SIZE), np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "label", (2, *SIZE))
    file.create_virtual_dataset("label", layout)


def group(file: Any) -> None:
    file.create_group("label")


def wide(file: Any) -> None:
    file.create_dataset("label", data=np.zeros((2, *SIZE), np.int32))


def flat(file: Any) -> None:
    file.create_dataset("label", data=np.zeros((2, 24), np.uint8))


def short(file: Any) -> None:
    file.create_dataset("label", data=np.zeros((1, *SIZE), np.uint8))


@pytest.mark.parametrize("make", [external, soft, raw, virtual, group, wide, flat, short])
def test_a_shard_of_another_shape_is_refused_by_name(tmp_path: Path, make: Any):
    path = shard(tmp_path)
    shutil.copy(path, tmp_path / "other.h5")
    change(path, "label", make)
    with pytest.raises(DamagedShard, match="maps-00000.h5"):
        LabelMapReader(tmp_path)
    with pytest.raises(DamagedShard, match="maps-00000.h5"):
        check_shard(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", "many"),
        ("images", np.inf),
        ("complete", "many"),
        ("label_set", "many"),
        ("schema", 99),
        ("confidence_steps", 100),
    ],
)
def test_attributes_of_another_shape_are_damage(tmp_path: Path, name: str, value: Any):
    path = shard(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(DamagedShard):
        LabelMapReader(tmp_path)


@pytest.mark.parametrize("key", [0, None, "c"])
def test_a_key_that_has_no_map_is_missing(tmp_path: Path, key: Any):
    shard(tmp_path)
    with pytest.raises(MissingMap):
        LabelMapReader(tmp_path)[key]


def test_a_map_is_compared_with_its_checksum_when_it_is_read(tmp_path: Path):
    path = shard(tmp_path)
    with h5py.File(path, "r+") as file:
        values: Any = file["label"]
        values.id.write_direct_chunk((1, 0, 0), deflate(LABEL[::-1]))
    reader = LabelMapReader(tmp_path)
    assert np.array_equal(reader["a"][0], LABEL)
    with pytest.raises(DamagedShard, match="the map of b fails its checksum"):
        reader["b"]


def test_a_map_unfolds_to_its_size_and_no_further():
    assert inflate(deflate(LABEL), 24) == LABEL.tobytes()
    for data in (zlib.compress(bytes(10**7)), zlib.compress(bytes(23)), deflate(LABEL)[:-1]):
        with pytest.raises(ValueError):
            inflate(data, 24)
    broken = bytearray(deflate(LABEL))
    broken[-1] ^= 1  # its Adler-32
    with pytest.raises(zlib.error):
        inflate(bytes(broken), 24)
