"""Reading MATLAB v5 files that may be damaged, half fetched or something else altogether."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.terminal.errors import ReidpipeError


def read_mat(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The arrays called ``names`` of a MATLAB v4 to v7.2 file.

    Raises ReidpipeError naming the file when it cannot be read or lacks one of them; a v7.3 file
    is HDF5 and another reader's business.
    """
    from scipy.io import loadmat

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
