"""``python -m tests.other_kernel``: a core type of OpenBLAS that is not this processor's own."""

from __future__ import annotations

import numpy  # noqa: F401  (brings the library that is asked)
from threadpoolctl import threadpool_info


def other_core() -> str:
    """``Haswell``, the kernels of most desktops; where they are the machine's own, ``Nehalem``."""
    own = {library.get("architecture") for library in threadpool_info()}
    return "Nehalem" if own & {"Haswell", "Zen"} else "Haswell"


if __name__ == "__main__":
    print(other_core())  # noqa: T201
