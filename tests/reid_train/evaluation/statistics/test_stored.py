"""``statistics.json``: written and read back; anything else is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.statistics.stored import (
    CameraPair,
    Cmc,
    Confusion,
    Estimate,
    Resampling,
    Roc,
    StoredStatistics,
)

FULL = StoredStatistics(
    resampling=Resampling(draws=1000, people=3),
    intervals={"mAP": [0.1, 0.2]},
    cmc=Cmc(rank=[1, 2], value=[0.5, 1], low=[0, 0.5], high=[1, 1]),
    roc=Roc(fpr=[0.1, 1], tpr=[0.5, 1]),
    tpr_at_fpr={"0.1": Estimate(value=0.5)},
    camera_pairs=[CameraPair(query=0, gallery=1, queries=3, mAP=1, rank1=0.5)],
    confusions=[Confusion(pid=1, taken_for=2, queries=4)],
    chance={"mAP": 0.01},
    why={"roc.low": "fewer than three people"},
)


def test_read_back_with_the_names_of_the_file(tmp_path: Path):
    FULL.write(tmp_path)
    assert StoredStatistics.read(tmp_path) == FULL
    plain = FULL.plain()
    assert plain["camera_pairs"][0]["Rank-1"] == 0.5 and plain["intervals_over_queries"] is None
    assert set(plain) == {
        "resampling", "intervals", "intervals_over_queries", "cmc", "roc", "tpr_at_fpr",
        "camera_pairs", "confusions", "chance", "why",
    }  # fmt: skip


def test_none_and_damaged_are_one_line(tmp_path: Path):
    with pytest.raises(ReidpipeError, match=r"found no statistics.json .* type reidpipe eval"):
        StoredStatistics.read(tmp_path)
    for text in (
        "{", "[]", '{"intervals": {"mAP": [1]}}', '{"chance": {"mAP": "0.1"}}',
        '{"cmc": {"rank": [1], "value": [0.5, 1]}}', '{"roc": {"fpr": [2], "tpr": [1]}}',
    ):  # fmt: skip
        (tmp_path / "statistics.json").write_text(text)
        with pytest.raises(DamagedFile, match="statistics.json damaged") as caught:
            StoredStatistics.read(tmp_path)
        assert "\n" not in str(caught.value)
