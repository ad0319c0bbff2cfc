"""Text from files and their names, as it may reach a terminal."""

from __future__ import annotations

import logging
import unicodedata

LONGEST = 500
# Marks, embeddings, overrides and isolates of the direction of writing.
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """``text`` with every control character but the line break and the tab written as an escape,
    and so what turns the direction of writing: a file's name moves no cursor and sets no title.
    """
    return "".join(_escape(char) if _acts(char) else char for char in text)


def one_line(text: str) -> str:
    """``text`` as one printable line; of a long one the beginning, and the end, which says what to
    type.
    """
    line = " ".join(printable(text).split())
    if len(line) <= LONGEST:
        return line
    half = (LONGEST - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


def shortened(names: list[str], most: int = 3) -> str:
    """``a, b, c and 7 more`` for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class PrintableFormatter(logging.Formatter):
    """Log records as printable text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's message; a traceback keeps its lines."""
        return printable(super().format(record))


def _acts(char: str) -> bool:
    control = unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"
    return control or char in _TURNS


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
