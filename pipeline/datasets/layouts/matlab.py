"""Reading MATLAB v5 files that may be damaged, half fetched or something else altogether."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.terminal.errors import ReidpipeError

# Prints the number of each file before it is read; which errors there are is another's business.
_TRIAL = """
import contextlib, os, sys
from scipy.io import loadmat
for number, path in enumerate(filter(None, sys.stdin.buffer.read().split(b"\\0"))):
    print(number, flush=True)
    with contextlib.suppress(Exception):
        loadmat(os.fsdecode(path))
"""


def try_mats(paths: Sequence[Path]) -> None:
    """Let another process read these files first. scipy's parser is compiled code that believes
    what a file says of its own parts: a damaged one can end the process that reads it.

    Raises ReidpipeError naming the file at which that happened.
    """
    if not paths:
        return
    trial = subprocess.run(
        [sys.executable, "-c", _TRIAL],
        input=b"\0".join(bytes(path) for path in paths),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if trial.returncode < 0 and trial.stdout:
        path = paths[int(trial.stdout.split()[-1])]
        raise ReidpipeError(
            f"{path}: found no readable MATLAB file (its reader was ended by signal "
            f"{-trial.returncode}); expected one in MATLAB v5 format; fetch it again"
        )


def read_mat(path: Path, names: Sequence[str], *, tried: bool = False) -> dict[str, Any]:
    """The arrays called ``names`` of a MATLAB v4 to v7.2 file. tried: whether ``try_mats`` has
    read it, as it does many at once.

    Raises ReidpipeError naming the file when it cannot be read or lacks one of them; a v7.3 file
    is HDF5 and another reader's business.
    """
    from scipy.io import loadmat

    if not tried:
        try_mats([path])
    try:
        content = loadmat(path)
    except Exception as error:
        # scipy raises whatever its parser stumbles over (IndexError, zlib.error, TypeError, ...):
        # each of them means that the file is not what its name says.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReidpipeError(
            f"{path}: found no readable MATLAB file ({reason}); expected {', '.join(names)} in "
            "MATLAB v5 format; fetch it again"
        ) from error
    lacking = [name for name in names if name not in content]
    if lacking:
        raise ReidpipeError(
            f"{path}: found no array '{lacking[0]}'; expected {', '.join(names)}; fetch it again"
        )
    return {name: content[name] for name in names}
