"""A curve in plain characters, for any terminal."""

from __future__ import annotations

from collections.abc import Sequence

POINT, BETWEEN = "*", "."


def chart(
    points: Sequence[tuple[float, float]], *, end: float, width: int, height: int, form: str = ".3g"
) -> list[str]:
    """Lines of at most ``width`` characters: a curve through ``points`` (x, y), x rising from 1 to
    ``end`` at the right edge, whatever part of it there is yet; y from its least to its greatest,
    which stand at the left in the format ``form``. Points that share a column are averaged.
    """
    low, high = min(y for _, y in points), max(y for _, y in points)
    labels = [format(high, form), format(low, form)]
    margin = max(map(len, labels))
    columns = max(width - margin - 2, 2)
    filled = _columns(points, end, columns)
    rows = [[" "] * columns for _ in range(max(height, 2))]

    def row_of(y: float) -> int:
        share = (high - y) / (high - low) if high > low else 0.5
        return round(share * (len(rows) - 1))

    places = sorted(filled)
    for left, right in zip(places, places[1:], strict=False):
        for column in range(left + 1, right):
            share = (column - left) / (right - left)
            rows[row_of(filled[left] + share * (filled[right] - filled[left]))][column] = BETWEEN
    for column, y in filled.items():
        rows[row_of(y)][column] = POINT
    names = [labels[0], *[""] * (len(rows) - 2), labels[1]]
    drawn = [
        f"{name:>{margin}} |{''.join(row)}".rstrip() for name, row in zip(names, rows, strict=True)
    ]
    axis = f"1{f'{end:g}':>{columns - 1}}"
    return [*drawn, f"{'':>{margin}} +{'-' * columns}", f"{'':>{margin}}  {axis}"]


def _columns(points: Sequence[tuple[float, float]], end: float, columns: int) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for x, y in points:
        share = (x - 1) / (end - 1) if end > 1 else 0.0
        found.setdefault(min(round(share * (columns - 1)), columns - 1), []).append(y)
    return {column: sum(values) / len(values) for column, values in found.items()}
