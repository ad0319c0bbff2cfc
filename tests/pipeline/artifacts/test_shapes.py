"""JSON of other shapes, and arrays that are none, are told by the file's name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import atomic, checked
from pipeline.artifacts.arrays import map_array, read_arrays, write_arrays
from pipeline.artifacts.mark import MARK, is_marked, read_mark
from pipeline.artifacts.shapes import Among, Each, Either, Maybe, Named, wrong
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import DamagedFile


@pytest.mark.parametrize(
    ("value", "shape", "told"),
    [
        (1, int, ""), (True, int, "content True"), ("x", int, "content 'x'"),
        (float("nan"), float, "content nan"), (2**63, int, "content 9223372036854775808"),
        ([1, 2], Each(int, 2), ""), ([1], Each(int, 2), "content [1]"),
        ([1, "x"], Each(int), "1 'x'"),
        ({"a": {}}, {"a": {"b": int}}, "no a.b"), ({}, {"a": Maybe(int)}, ""),
        ({"a": None}, {"a": int}, "a None"), ({"x": 1}, Named(int), ""),
        ([], Named(int), "content that is no mapping"),
        (["a"], Either((Each(str), {"b": int})), ""), (5, None, ""),
        ("a", Among(("a", "b")), ""), ("A", Among(("a", "b")), "content 'A'"),
        ("\udcff", str, ""), ("\ud800", str, "content '\\ud800'"),
    ],
)  # fmt: skip
def test_where_a_value_departs(value, shape, told: str):
    assert wrong(value, shape) == told


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "x", '{"a": 1}{'])
def test_what_is_no_json_is_damage(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DamagedFile, match="x.json damaged"):
        atomic.read_json(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", []), ("metrics.json", {"mAP": 0.5}), ("keys.json", {"keys": [1]}),
        ("dataset.json", {"dataset": "x", "root": False}), ("threshold.json", {"histogram": 10**9}),
        ("model.json", {"model": {"trunk": "tiny"}}), ("parts.json", {"runs": {}}),
        ("features.json", {"pids": [[]], "part_names": []}), ("activations.json", {}),
        ("activations.json", {"method": "GRADIENT"}),
        ("dataset.json", {"dataset": "x", "root": "\ud800"}),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_named(tmp_path: Path, name: str, content):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=name):
        checked.read_json(tmp_path / name)


INDEX = {"counts": [{"subset": "train"}], "lines": [], "problems": []}
MAPS = {"images": 1, "seconds": 0.5, "images_per_s": 2.0, "two_bodies": ["a"]}


@pytest.mark.parametrize(
    ("step", "fits", "departs", "told"),
    [
        ("index", INDEX, {**INDEX, "counts": [{"images": 1}]}, "no counts.0.subset"),
        ("maps", MAPS, {**MAPS, "two_bodies": float("nan")}, "two_bodies nan"),
        ("centred", {"changed": []}, {}, "no changed"),
        ("of no shape", {}, {}, None),
    ],
)
def test_a_summary_of_another_shape_is_no_mark(tmp_path: Path, step: str, fits, departs, told):
    folder = tmp_path / step / "key"
    folder.mkdir(parents=True)
    mark = {"params": {}, "inputs": {}, "started": "", "seconds": 1.0, "files": {}}
    (folder / MARK).write_text(json.dumps({**mark, "summary": fits}))
    assert read_mark(folder)["summary"] == fits
    (folder / MARK).write_text(json.dumps({**mark, "summary": departs}))
    if told is None:
        assert is_marked(folder)
        return
    assert not is_marked(folder)
    with pytest.raises(DamagedFile, match=told):
        read_mark(folder)


@pytest.mark.parametrize(
    "header",
    ["{", "()", "{" * 900, "{'descr': '<f4'}",
     "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
     "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000)}",
     "{'descr': '<U4', 'fortran_order': False, 'shape': (-1, 4)}"],
)  # fmt: skip
def test_an_array_whose_header_lies_is_damage(tmp_path: Path, header: str):
    path = tmp_path / "x.npy"
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(64))
    with pytest.raises(DamagedFile, match="x.npy damaged"):
        map_array(path, "float32")


def test_several_arrays_are_none(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DamagedFile, match="several arrays"):
        map_array(tmp_path / "x.npy", "float32")


def test_arrays_of_another_kind_are_damage(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.array([{}], object))
    assert read_arrays(tmp_path / "x.npz", {"a": ("f", 1)})["a"].shape == (3,)
    for shapes in ({"a": ("i", 1)}, {"a": ("f", 2)}, {"b": ("O", 1)}):
        with pytest.raises(DamagedFile, match="x.npz damaged"):
            read_arrays(tmp_path / "x.npz", shapes)


@pytest.mark.parametrize("gone", [slice(99, 135), slice(0, 60), slice(-40, None)])
def test_an_archive_with_bytes_gone_is_damage(gone: slice, tmp_path: Path):
    write_arrays(tmp_path / "x.npz", {"a": np.zeros(300), "b": np.ones((9, 9))})
    data = bytearray((tmp_path / "x.npz").read_bytes())
    del data[gone]
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DamagedFile, match="x.npz damaged"):
        read_arrays(tmp_path / "x.npz", {"a": ("f", 1), "b": ("f", 2)})


@pytest.mark.parametrize(
    "change", [{"weights": 7}, {"keyed": [1]}, {"params": "x"}, {"inputs": {"a": 5}}, {"files": []}]
)
def test_a_step_of_another_shape_is_damage(change: dict):
    whole = Step("index", {"dataset": "x"}).plain()
    assert Step.from_plain(whole).plain() == whole
    with pytest.raises(DamagedFile, match="found a step with"):
        Step.from_plain(whole | change)


def test_arrays_are_written_alike_and_read_back(tmp_path: Path):
    arrays = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.array(["x", "yy"])}
    for name in ("x.npz", "y.npz"):
        write_arrays(tmp_path / name, arrays, plain=("a",))
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    found = read_arrays(tmp_path / "x.npz", {"a": ("i", 2), "b": ("U", 1)})
    assert all((found[name] == arrays[name]).all() for name in arrays)
    with zipfile.ZipFile(tmp_path / "x.npz") as file:
        kinds = [entry.compress_type for entry in file.infolist()]
    assert kinds == [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
