"""How the first process of torchrun calls the others into a collective step.

The first one alone holds an artifact's lock, so only it knows whether there is work to do together
or whether somebody else has made the artifact meanwhile. Its call is a file beside the artifact's
folder under a lock, which other machines see too: a call that a killed run left is locked by nobody
and heard by nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.locks import holding, is_held
from pipeline.terminal.errors import ReidpipeError

# What the processes of one launch have in common and no other launch alive at the time has.
_LAUNCH = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
# What torchrun sets besides, for each process.
_PLACE = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"),
)


def leave() -> None:
    """This process is none of the launch, though a process of it started it: it takes the GPU that
    it is told and waits for nobody.
    """
    for name in [*os.environ]:
        if name in (*_LAUNCH, *_PLACE) or name.startswith("TORCHELASTIC_"):
            del os.environ[name]


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
    for left in folder.parent.glob(f"{folder.name}.*.call*"):
        left.unlink(missing_ok=True)
    path = _path(folder)
    with holding(path, f"{folder.name} is called for"):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def called(folder: Path) -> bool:
    """Whether the first process of this launch is at work on ``folder`` and waits for this one."""
    return is_held(_path(folder))


def _path(folder: Path) -> Path:
    launch = "/".join(os.environ.get(name, "") for name in _LAUNCH)
    return folder.parent / f"{folder.name}.{hashlib.sha256(launch.encode()).hexdigest()[:8]}.call"
