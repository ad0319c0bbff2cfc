"""The ``reidpipe`` command as it is installed, and as ``python -m reid_train`` and ``torchrun -m
reid_train`` start it: beside any folder or file of the user's that is called as one of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the command line on this project's own modules. Worker processes inherit ``sys.path``."""
    # PYTHONPATH and the working folder come before installed packages, and there may lie another
    # cli.py or pipeline/.
    sys.path.insert(0, str(Path(__file__).absolute().parent.parent))
    import cli

    cli.main()


if __name__ == "__main__":
    main()
