"""What a row of an index costs in memory: at a million rows, as many MiB as here bytes."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import atomic
from pipeline.datasets.check import check_rows
from pipeline.datasets.index import ImageRow, Index, read_index, write_index
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.datasets.repeats import may_repeat
from pipeline.datasets.sharing import Shared
from pipeline.datasets.work import Found, Measured, _index_rows

ROWS = 20_000


def path_of(n: int) -> str:
    return f"train/{n // 16:07}/{n // 16:07}_c{n % 8}_{n:08}.jpg"


def rows(count: int = ROWS) -> list[ImageRow]:
    return [
        ImageRow(
            path_of(n), path_of(n), "train", n // 16, n % 8, None, f"s{n % 6}", n, 64, 128,
            f"{n:064x}", {"clothes": f"{n % 50}"},
        )
        for n in range(count)
    ]  # fmt: skip


@contextlib.contextmanager
def traced() -> Iterator[list[float]]:
    """Bytes of a row that are held when the block ends, and the most that were."""
    found: list[float] = []
    tracemalloc.start()
    try:
        yield found
        found += [size / ROWS for size in tracemalloc.get_traced_memory()]
    finally:
        tracemalloc.stop()


def test_reading_an_index(tmp_path: Path) -> None:
    write_index(tmp_path, Index("mine", Path("/data"), rows()))
    with traced() as held:
        index = read_index(tmp_path)
    assert index.rows[::97] == rows()[::97]
    assert held[0] < 420  # 660 before: path, digits, columns of each by itself
    assert held[1] < 520


def test_making_rows_and_checking_them() -> None:
    read = [LayoutRow(path_of(n), "train", 1000 + n // 16, n % 8, frame=n) for n in range(ROWS)]
    facts = (Measured(64, 128, f"{n:064x}", "") for n in range(ROWS))
    with traced() as held:
        made = _index_rows(read, facts, Found())
    assert not read and len(made) == ROWS
    assert held[0] < 270 and held[1] < 300
    with traced() as held:
        check_rows(made)
    assert held[1] < 60  # digests in lists by digest: 160


def test_json_is_written_piece_by_piece(tmp_path: Path) -> None:
    value = {"keys": [path_of(n) for n in range(ROWS)], "size": [1, 2], "ä": None}
    with traced() as held:
        atomic.write_json(tmp_path / "a.json", value)
    assert held[1] < 20  # the text as a whole: 250
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == json.dumps(value, indent=2, sort_keys=True) + "\n"


@given(st.lists(st.text(max_size=2)))
def test_what_repeats_is_found(texts: list[str]) -> None:
    counts = Counter(texts)
    wanted = [at for at, text in enumerate(texts) if counts[text] > 1]
    assert set(may_repeat(texts, len(texts)).tolist()) >= set(wanted)
    # Hashes of a handful of texts differ.
    assert may_repeat(texts, len(texts)).tolist() == wanted


def test_equal_values_are_one_object_up_to_a_number_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Shared, "MOST", 2)
    shared = Shared()
    first, second, third = (shared.same(int(f"12345{n}")) for n in range(3))
    assert shared.same(int("123450")) is first and shared.same(int("123451")) is second
    assert shared.same(int("123452")) == third and shared.same(int("123452")) is not third
    assert shared.columns((("a", "b"),)) is shared.columns((("a", "b"),)) == {"a": "b"}
    assert shared.columns(()) is shared.columns(()) == {}
