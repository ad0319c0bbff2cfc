"""The parser that ships with the package: complete, small, good enough, and honest about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import parsing_models
from parsing_models import load_parser
from parsing_models.parsers.interface import Parser
from parsing_models.training.small import score
from pipeline.artifacts.atomic import sha256_file
from pipeline.images.pixels import decode
from pipeline.labels.sets import LIP, PARTS

WEIGHTS = Path(parsing_models.__file__).parent / "weights" / "schp-tiny.safetensors"


@pytest.fixture(scope="module")
def parser() -> Parser:
    return load_parser("schp-tiny")


def test_it_ships_small_with_the_command_that_made_it(parser: Parser):
    assert WEIGHTS.stat().st_size <= 4 * 2**20
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert record["sha256"] == sha256_file(WEIGHTS) == parser.facts["weights_sha256"]
    assert record["command"].startswith("python -m parsing_models.training.small")
    assert (
        record["scores"]["images"] == 512 and "mannequins, seed 0" in record["scores"]["protocol"]
    )
    assert record["scores"]["mIoU"] >= 0.70
    assert set(record["scores"]["iou"]) == set(LIP.names)
    assert tuple(record["input_size"]) == parser.input_size and parser.label_set == LIP


def test_it_scores_what_it_says_on_people_it_never_saw(parser: Parser):
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    scores = score(parser, 48)
    # A part of the set scores near the whole; rare classes make mean IoU jump, accuracy not.
    assert scores["pixel_accuracy"] >= record["scores"]["pixel_accuracy"] - 0.03
    assert scores["mIoU"] >= record["scores"]["mIoU"] - 0.15


def test_real_people_have_a_head_a_torso_and_legs_in_this_order(parser: Parser, col780: Path):
    files = sorted((col780 / "train").glob("*/*.png"))[::20]
    maps = parser.parse([decode(path) for path in files])
    parts = LIP.map_to(PARTS)[np.asarray(maps.label)]
    rows = np.arange(256)[None, :, None]
    upright = 0
    for part in parts:
        shares = [(part == number).mean() for number in (1, 2, 4)]
        centres = [(rows[0] * (part == n)).sum() / max((part == n).sum(), 1) for n in (1, 2, 4)]
        upright += min(shares) > 0.005 and centres == sorted(centres)
    assert upright >= 0.9 * len(files)
