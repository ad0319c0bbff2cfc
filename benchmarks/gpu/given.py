"""What every measurement is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.sizes import Sizes


@dataclass(frozen=True)
class Given:
    """folder: of this run, shared by its measurements, for files that they make. peak: operations
    a second that the device could do in half precision at most, None where nobody knows. limit:
    seconds after which the measurement is stopped.
    """

    folder: Path
    device: str
    sizes: Sizes
    peak: float | None = None
    limit: float = 60.0

    def share(self, operations: float) -> float | None:
        """Share of ``peak`` of so many operations a second."""
        return None if self.peak is None else operations / self.peak


class Skipped(Exception):
    """A measurement that cannot be taken here; the text says why."""
