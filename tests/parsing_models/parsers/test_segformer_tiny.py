"""The small SegFormer that ships with the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import parsing_models
from parsing_models import load_parser
from parsing_models.training.small import score
from pipeline.artifacts.atomic import sha256_file
from pipeline.labels.sets import LIP
from pipeline.terminal.errors import ReidpipeError

WEIGHTS = Path(parsing_models.__file__).parent / "weights" / "segformer-tiny.safetensors"


def test_it_ships_small_and_scores_what_it_says() -> None:
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    parser = load_parser("segformer-tiny")
    assert WEIGHTS.stat().st_size <= 2 * 2**20
    assert record["sha256"] == sha256_file(WEIGHTS) == parser.facts["weights_sha256"]
    assert "--kind segformer-tiny" in record["command"] and record["scores"]["images"] == 512
    assert parser.label_set == LIP
    found = score(parser, 32)
    # A part of the set scores near the whole.
    assert found["pixel_accuracy"] >= record["scores"]["pixel_accuracy"] - 0.04


def test_maps_do_not_depend_on_the_batch() -> None:
    parser = load_parser("segformer-tiny")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), dtype=np.uint8)
    together, alone = parser.parse(images), parser.parse(images[1:2])
    same = np.asarray(together.label)[1] == np.asarray(alone.label)[0]
    assert same.mean() > 0.999


def test_other_options_are_refused() -> None:
    with pytest.raises(ReidpipeError, match="semantic_weight.*segformer-tiny"):
        load_parser("segformer-tiny", semantic_weight=0.8)
