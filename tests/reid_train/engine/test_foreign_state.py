"""A ``state.pt`` that this training did not write."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_state
from reid_train.engine.loop import STATE, train
from tests.reid_train.engine.test_loop import RUNTIME, Toy, plain_stage


@pytest.mark.parametrize("content", [{"a": 1}, [1], torch.zeros(2), 7], ids=repr)
def test_what_is_no_state_is_the_state_of_another_run(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / STATE)
    with pytest.raises(ReidpipeError, match="state of another run.*to start over type rm "):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_one_line_and_no_warning(tmp_path: Path, protocol: int):
    (tmp_path / STATE).write_bytes(pickle.dumps({"a": 1}, protocol))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReidpipeError, match="cannot be read.*type rm "):
            load_state(tmp_path / STATE)
