"""Frozen features on disk: what belongs together, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.terminal.errors import DamagedFile
from reid_train.data.features import FeatureBatches, FrozenFeatures

PLAIN = FrozenFeatures(torch.ones(3, 4), torch.tensor([0, 1, 1]), [7, 9])
PARTED = replace(
    PLAIN, parts=torch.ones(3, 2, 4).half(), counts=torch.ones(3, 2), part_names=("hat", "hair")
)


@pytest.mark.parametrize("features", [PLAIN, PARTED], ids=["plain", "parted"])
def test_what_was_written_is_read(features: FrozenFeatures, tmp_path: Path):
    features.save(tmp_path)
    found = FrozenFeatures.load(tmp_path)
    assert (found.pids, found.part_names) == (features.pids, features.part_names)
    assert (found.parts is None) == (features.parts is None)
    assert torch.equal(found.projected, features.projected)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": None},
        {"parts": None},
        {"parts": None, "counts": None},
        {"parts": torch.ones(3, 2)},
        {"counts": torch.ones(3, 3)},
        {"part_names": ("hat",)},
        {"labels": torch.tensor([0, 1, 2])},
        {"projected": torch.ones(2, 4)},
    ],
    ids=lambda change: " ".join(change),
)
def test_what_does_not_belong_together_is_damage(change: dict, tmp_path: Path):
    replace(PARTED, **change).save(tmp_path)
    with pytest.raises(DamagedFile, match="features.safetensors"):
        FrozenFeatures.load(tmp_path)


def test_parts_that_are_asked_for_must_be_there():
    with pytest.raises(DamagedFile, match="without parts"):
        FeatureBatches(PLAIN, batch=2, parts=True, seed=0)
    assert len(FeatureBatches(PARTED, batch=2, parts=True, seed=0)) == 2
