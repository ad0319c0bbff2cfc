from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.yaml_text import read_yaml, read_yaml_file

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NOBODY_WRITES = {
    "aliases that unfold without bound": BOMB,
    "a list that holds itself": "a: &a [*a]",
    "a mapping that holds itself": "&a {b: *a}",
    "an alias of nothing": "a: *b",
    "brackets": "[" * 3000 + "]" * 3000,
    "open brackets": "[" * 3000,
    "braces": "{a: " * 3000,
    "a number without end": "a: " + "9" * 5000,
    "a hexadecimal number without end": "a: 0x" + "f" * 4000,
    "a text that is called a number": 'a: !!int "0b' + "1" * 20_000 + '"',
    "sixties of sixties": "a: " + ":".join(["1"] * 3000),
    "nothing, called a number": 'a: !!int "' + " " * 2000 + '"',
    "no such day": "a: 2024-13-45",
    "a key that is a list": "? [1]\n: 2",
    "a key that is a mapping": "? {a: 1}\n: 2",
    "a tag of Python": "!!python/object/apply:os.system [echo]",
    "a control character": "a: \x00",
    "a key twice": "a: 1\nb: 2\na: 3",
    "a key twice, deep": 'a: [{b: {c: 1, "c": 2}}]',
    "two documents": "a: 1\n---\nb: 2",
    "length": "a: " + "b" * 1_000_001,
}


@pytest.mark.parametrize("text", NOBODY_WRITES.values(), ids=NOBODY_WRITES.keys())
def test_what_nobody_writes_is_no_yaml(text: str, tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReidpipeError, match="x.yaml") as told:
        read_yaml_file(path)
    assert "\n" not in str(told.value) and time.monotonic() - started < 2


@pytest.mark.parametrize("text", ["5 " * 3000, '"0x' + "f" * 4000 + '"', "|\n  " + "7" * 4000])
def test_a_long_text_is_no_number(text: str):
    assert isinstance(read_yaml("a: " + text)["a"], str)


def test_an_alias_of_something_is_that_thing():
    value = read_yaml("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: *a, x: 4}")
    assert value["b"] == {"x": [1, 2]} and value["c"] == {"x": [1, 2], "y": 3}
    assert value["d"] == {"x": 4} and read_yaml("") is None


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-32"])
def test_another_encoding_is_told(encoding: str, tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_bytes("título: é".encode(encoding))
    with pytest.raises(ReidpipeError, match="UTF-8|cannot be read"):
        read_yaml_file(path)


def test_a_folder_and_nothing_are_told(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ReidpipeError, match="found no way to read"):
            read_yaml_file(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("5E4", 5e4), ("-.5e+1", -5.0), ("2.e3", 2000.0), ("1.0e-3", 0.001)],
)
def test_powers_of_ten_are_numbers_with_or_without_a_point(text: str, value: float):
    found = read_yaml(text)
    assert type(found) is float and found == value


@pytest.mark.parametrize("text", ["1e", "e3", "1e3a", ".e3", "1e-", "'1e3'", "1 e3", "1e3.5"])
def test_what_only_looks_like_one_is_text(text: str):
    assert isinstance(read_yaml(text), str)
