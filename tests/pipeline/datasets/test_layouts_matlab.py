"""MATLAB files that end whoever reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.datasets.layouts.matlab import read_mat, try_mats
from pipeline.terminal.errors import ReidpipeError


def deadly(path: Path) -> Path:
    """An array that says it has an imaginary part, and has none: scipy follows no pointer."""
    savemat(path, {"idx": np.arange(8.0), "later": np.arange(4.0)})
    data = bytearray(path.read_bytes())
    at = data.index(b"idx") - 27  # behind its class, before its dimensions and its name
    data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    code = f"from scipy.io import loadmat; loadmat({str(path)!r})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if ended.returncode >= 0:
        pytest.skip("this scipy survives it")
    return path


def test_a_file_that_ends_its_reader_is_one_line(tmp_path: Path):
    whole = tmp_path / "whole.mat"
    savemat(whole, {"idx": np.arange(3.0)})
    bad = deadly(tmp_path / "bad.mat")
    with pytest.raises(ReidpipeError, match="bad.mat: found no readable MATLAB file .*signal 11"):
        read_mat(bad, ("idx",))
    with pytest.raises(ReidpipeError, match="bad.mat"):
        try_mats([whole, bad, whole])
    try_mats([whole, tmp_path / "gone.mat"])
    try_mats([])
    assert read_mat(whole, ("idx",))["idx"].ravel().tolist() == [0, 1, 2]
