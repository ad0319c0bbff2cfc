"""How the first process of torchrun calls the others into a collective step.

The first one alone holds an artifact's lock, so only it knows whether there is work to do together
or whether somebody else has made the artifact meanwhile. Its call is a file beside the artifact's
folder under an operating-system lock: a call that a killed run left is locked by nobody and heard
by nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.terminal.errors import ReidpipeError

# What the processes of one launch have in common and no other launch alive at the time has.
_LAUNCH = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Which process of a launch this is; 0 where nothing was launched. Raises ReidpipeError for an
    environment that no launcher makes.
    """
    text = os.environ.get("RANK", "0")
    if not (text.isascii() and text.isdigit()):
        raise ReidpipeError(
            f"found RANK={text} in the environment; expected the number of a process, as torchrun "
            "sets it; type unset RANK"
        )
    return int(text)


@contextlib.contextmanager
def calling(folder: Path) -> Iterator[None]:
    """While inside, ``called`` is true of ``folder`` in the other processes of this launch. The
    caller holds the artifact's lock; without torchrun nothing happens.
    """
    if "RANK" not in os.environ:
        yield
        return
    for left in folder.parent.glob(f"{folder.name}.*.call"):
        left.unlink(missing_ok=True)
    path = _path(folder)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def called(folder: Path) -> bool:
    """Whether the first process of this launch is at work on ``folder`` and waits for this one."""
    try:
        with _path(folder).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _path(folder: Path) -> Path:
    launch = "/".join(os.environ.get(name, "") for name in _LAUNCH)
    return folder.parent / f"{folder.name}.{hashlib.sha256(launch.encode()).hexdigest()[:8]}.call"
