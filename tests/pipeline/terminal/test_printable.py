from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from pipeline.terminal.printable import LONGEST, PrintableFormatter, one_line, printable


def test_controls_are_written_as_escapes_and_words_stay():
    assert printable("a\x1b]0;title\x07b\x9b2Jc\r") == "a\\x1b]0;title\\x07b\\x9b2Jc\\r"
    assert printable("two\tcolumns\nétoile 😀") == "two\tcolumns\nétoile 😀"
    assert printable("gpj.\u202egnp") == "gpj.\\u202egnp"
    assert printable("\udcff") == "\\udcff"


@given(st.text())
def test_nothing_that_is_printed_acts(text: str):
    shown = printable(text)
    assert not {c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160}
    assert printable(shown) == shown


@given(st.text(max_size=3000))
def test_a_line_is_one_line_of_bounded_length(text: str):
    line = one_line(text)
    assert "\n" not in line and len(line) <= LONGEST


def test_a_long_line_keeps_what_was_found_and_what_to_type():
    line = one_line("found a" + "b" * 2000 + "; type reidpipe prepare")
    assert line.startswith("found ab") and line.endswith("; type reidpipe prepare")


def test_log_records_are_printable():
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "found %s", ("\x1b[2J",), None)
    assert PrintableFormatter().format(record) == "found \\x1b[2J"
