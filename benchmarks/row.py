"""A row of the table of ``python -m benchmarks``: what was measured beside what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement of one piece of work.

    work: what was done, with its size. measured: in ``unit``, "x" for a ratio to what ``against``
    names (say there which way it is to be read: "times faster than ..." or "times the time of
    ..."), or such as "a second". goal: as text, "30x"; "" where none was set. limit: what cannot be
    passed, measured in the same process, as text, "the matrix product alone: 1.0x"; "" where none
    is known. memory_mib: MiB at most beside what was given; None where it was not measured.
    """

    work: str
    measured: float
    unit: str
    against: str
    goal: str
    limit: str
    memory_mib: float | None


def line(row: Row) -> str:
    """A row as it is printed."""
    parts = [
        f"{row.work}: {row.measured:.3g}{'' if row.unit == 'x' else ' '}{row.unit} {row.against}",
        f"goal {row.goal or 'none'}",
        f"limit {row.limit or 'not known'}",
        "memory not measured" if row.memory_mib is None else f"{row.memory_mib:.0f} MiB",
    ]
    return " | ".join(parts)
