"""docs/examples/slope.py: the planned test of the parsers' table, by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT

# Seed 0: 50, 52, 54 % at 20, 60, 100 of mIoU, .05 points a point; seed 1: none; seed 2: .025.
BY_SEED = {
    "bad": [0.50, 0.61, 0.70],
    "fair": [0.52, 0.60, 0.71],
    "exact:borders=4": [0.54, 0.61, 0.72],
}


def test_the_slope_by_hand(tmp_path: Path):
    rows = [
        {"parsing": parser, "seeds": [0, 1, 2], "mAP": {"values": values}}
        for parser, values in BY_SEED.items()
    ]
    alone = {"parsing": None, "seeds": [0, 1, 2], "mAP": {"values": [0.9, 0.9, 0.9]}}
    (tmp_path / "table.json").write_text(json.dumps({"rows": [alone, *rows]}))
    words = [str(tmp_path / "table.json"), "bad=20", "fair=60", "exact:borders=4=100"]
    ended = subprocess.run(
        [sys.executable, PROJECT / "docs" / "examples" / "slope.py", *words],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
    )
    # .05, 0 and .025: mean .025, sd .025, error .0144, t .975 of two degrees 4.303; times 80 points
    assert ended.stdout == (
        "3 seeds: from the worst maps to the best (80.0 points of mIoU) mAP changes by +2.00 "
        "points, 95 % -2.97 to +6.97, p 0.225; a change of 6.19 would be found with a chance of "
        ".8\n"
    ), ended.stderr
