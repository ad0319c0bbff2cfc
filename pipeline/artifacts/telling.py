"""What an engine tells of the steps it makes, to whoever wants to hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step


@runtime_checkable
class Telling(Protocol):
    """Called by one process, the one that was asked for the steps; from any of its threads, one
    call at a time.
    """

    def queued(self, steps: Sequence[Step], *, together: int = 1) -> None:
        """These will be made, up to ``together`` of them side by side. Where that is one, they are
        made in this process and what they print goes where it always went; otherwise it lies in
        their logs (``pipeline.artifacts.attempts``), from which it is told.
        """
        ...

    def started(self, step: Step) -> None:
        """It is at work now, here or elsewhere."""
        ...

    def finished(self, step: Step, seconds: float) -> None:
        """Its artifact is complete; making it took ``seconds``."""
        ...

    def failed(self, step: Step, error: BaseException) -> None:
        """It raised ``error``; what stands on it will not be made."""
        ...

    def lost(self, step: Step) -> None:
        """Its worker has died: it waits again, and goes on elsewhere from what is saved."""
        ...

    def close(self) -> None:
        """Nothing is at work any more, whatever the reason. Called once for each ``queued``."""
        ...


class Announced:
    """The telling of a function that is called with each step just before it is executed."""

    def __init__(self, announce: Callable[[Step], None]) -> None:
        self.announce = announce

    def queued(self, steps: Sequence[Step], *, together: int = 1) -> None: ...

    def started(self, step: Step) -> None:
        self.announce(step)

    def finished(self, step: Step, seconds: float) -> None: ...

    def failed(self, step: Step, error: BaseException) -> None: ...

    def lost(self, step: Step) -> None: ...

    def close(self) -> None: ...


def telling_of(announce: Callable[[Step], None]) -> Telling:
    """``announce`` itself where it tells all of this, as ``Terminal.announce`` does."""
    return announce if isinstance(announce, Telling) else Announced(announce)
