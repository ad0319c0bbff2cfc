"""Models of the hub: a download that was killed is taken up again, one that fails is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from parsing_models.parsers import hub
from pipeline.terminal.errors import ReidpipeError

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder in the hub's cache, of which the second shard has not come."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    saved = tmp_path / "models--owner--clothes"
    (saved / "refs").mkdir(parents=True)
    (saved / "refs" / "main").write_text(commit)
    folder = saved / "snapshots" / commit
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    weights = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(weights))
    (folder / SHARDS[0]).write_bytes(b"")
    return folder


def test_a_killed_download_is_taken_up_again(snapshot: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(*_: Any, local_files_only: bool, **__: Any) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            (snapshot / SHARDS[1]).write_bytes(b"")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):  # once it is whole nobody is asked
        assert hub.folder_of("hf:owner/clothes") == snapshot
        assert asked == [True, False]


HTTP = errors.HfHubHTTPError.__bases__[0]


@pytest.mark.parametrize("kind", [HTTP, errors.XetDownloadError, OSError], ids=lambda k: k.__name__)
def test_a_download_that_fails_is_one_line(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
):
    assert not issubclass(HTTP, OSError | ValueError)

    def download(*_: Any, local_files_only: bool, **__: Any) -> str:
        if local_files_only:
            return str(snapshot)
        raise kind("the proxy\nsaid no")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ReidpipeError, match=r"no model owner/clothes .*\(the proxy\)") as caught:
        hub.folder_of("hf:owner/clothes")
    assert "\n" not in str(caught.value)
