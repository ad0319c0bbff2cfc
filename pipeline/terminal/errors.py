"""User mistakes, told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class ReidpipeError(Exception):
    """A mistake the user can cure.

    The message is one line that says what was found, what was expected and what to type.
    The command line prints it without a traceback and exits with code 2.
    """


class DamagedFile(ReidpipeError, ValueError):
    """A file whose content is not what was written there."""


class ChangedFile(ReidpipeError):
    """A file, ``path``, with other bytes than were seen before; the message names it."""

    path: Path


def nearest(name: str, valid: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the valid name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
