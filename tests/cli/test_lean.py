"""What commands that find everything made do not import: each line was a tenth of a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

LINES = {
    "asking for generated people draws nobody and looks at no tree": (
        "from pathlib import Path\n"
        "from pipeline.artifacts.store import Workspace\n"
        "from pipeline.datasets.sources import GENERATED, index_step\n"
        "assert index_step(Workspace(Path('w')), GENERATED).key\n",
        ("PIL", "pipeline.mannequins.drawing", "pipeline.datasets.roots"),
    ),
    "asking for label maps reads none": ("import parsing_models.commands\n", ("h5py", "scipy")),
    "two runs of one seed are compared without scipy": (
        "import numpy as np\n"
        "from reid_train.evaluation.statistics.paired import between_recipes\n"
        "assert between_recipes(np.ones((1, 20)), np.ones(20)).value == 1\n",
        ("scipy",),
    ),
}


@pytest.mark.parametrize("what", LINES)
def test_nothing_else_is_loaded(what: str):
    code, absent = LINES[what]
    asked = f"{code}import sys\nprint([name for name in {absent!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_package_of_mannequins_gives_what_it_names():
    import pipeline.mannequins as mannequins

    assert all(getattr(mannequins, name) is not None for name in mannequins.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        mannequins.no_such  # noqa: B018
