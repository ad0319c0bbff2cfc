"""Names on contact sheets: whatever letters a file's name has."""

from __future__ import annotations

import pytest

from reid_train.search.drawing import _font, _wrapped


@pytest.mark.parametrize(
    "sign", ["\n", "\r", "\x1c", "\x85", "\u2029", "\x1b]0;t\x07", "\udcff", "\x00"]
)
def test_a_name_with_signs_that_no_font_lays_out_is_drawn(sign: str):
    font = _font(10)
    lines = _wrapped(f"a{sign}b.jpg", 200, font, 2)
    assert lines and all(font.getlength(line) >= 0 for line in lines)
    assert not set("".join(lines)) & set("\n\r\x1b\x07\x00")
