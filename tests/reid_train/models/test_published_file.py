"""Where published weights are looked for, and that other bytes are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.published_file import published_file

URL = "https://example.org/models/net.pth"
DIGEST = hashlib.sha256(b"published").hexdigest()


def found(folder: Path, weights: Path | None, sha256: str = DIGEST) -> Path:
    return published_file(
        URL, sha256, weights, cache=folder / "cache", what="somebody's", source="a test"
    )


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REIDPIPE_WEIGHTS", str(tmp_path / "named"))
    for folder in ("cache", "named", "given"):  # each is asked before those that came first
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.pth").write_bytes(b"published")
        assert found(tmp_path, tmp_path / "given") == tmp_path / folder / "net.pth"
    assert found(tmp_path, None, DIGEST[:8]) == tmp_path / "named" / "net.pth"


def test_other_bytes_are_refused_wherever_they_lie(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "net.pth").write_bytes(b"others")
    for sha256 in (DIGEST, DIGEST[:8]):
        with pytest.raises(ReidpipeError, match=f"expected {sha256}; delete it and download"):
            found(tmp_path, None, sha256)


def test_no_file_and_no_folder_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    with pytest.raises(ReidpipeError, match=f"no folder for downloads.*{URL}.*{DIGEST}.*none$"):
        found(tmp_path, None)
