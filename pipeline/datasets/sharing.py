"""Equal values of many rows as one object."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value", int, str)


class Shared:
    """Most of a million rows' bytes are texts and numbers that other rows have too: identities,
    cameras, sizes, columns. Of values that hardly ever come again no more than ``MOST`` are kept.
    """

    MOST = 1 << 16

    def __init__(self) -> None:
        self._values: dict[int | str, int | str] = {}
        self._extras: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def same(self, value: Value) -> Value:
        """An equal number or text."""
        found = self._values.get(value)
        if found is None:
            if len(self._values) < self.MOST:
                self._values[value] = value
            return value
        return found  # type: ignore[return-value]

    def columns(self, items: tuple[tuple[str, str], ...]) -> dict[str, str]:
        """A dictionary of these items; others may hold it too, so nobody may change it."""
        found = self._extras.get(items)
        if found is None:
            found = dict(items)
            if len(self._extras) < self.MOST:
                self._extras[items] = found
        return found
