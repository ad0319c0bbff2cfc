"""Scales, sizes and weights that make no sense to a parser."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import parsing_models
from parsing_models import load_parser
from parsing_models.commands import _scales, maps_step
from parsing_models.parsers.interface import Parser
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.labels.sets import LIP
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError

IMAGES = np.zeros((1, 16, 8, 3), np.uint8)
PACKAGED = Path(parsing_models.__file__).parent / "weights"


@pytest.fixture(scope="module")
def parser() -> Parser:
    return load_parser("schp-tiny")


@pytest.mark.parametrize("scales", [(0,), (math.nan,), (1.0, math.inf), (-1,), (0.05,), (9.0,)])
def test_scales_of_a_parser(parser: Parser, scales: Any):
    with pytest.raises(ReidpipeError, match="found scales .*from 0.1 to 8"):
        parser.parse(IMAGES, scales=scales)


@pytest.mark.parametrize("text", ["nan", "inf", "1e-9", "1,0", "-1", "", "1,", "1,x"])
def test_scales_as_typed(text: str):
    with pytest.raises(ReidpipeError, match="found scales .*; type --scales 0.75,1.0"):
        _scales(text)


@pytest.mark.parametrize("scales", [1.0, "1", (), (None,), ("x",)], ids=repr)
def test_scales_that_are_no_numbers(parser: Parser, scales: Any):
    with pytest.raises(ValueError, match=r"found scales .*expected at least one number"):
        parser.parse(IMAGES, scales=scales)


@pytest.mark.parametrize(
    "images",
    [None, "a.png", [Image.new("RGB", (4, 4))], [[1, 2]], (i for i in IMAGES)],
    ids=["None", "text", "pictures", "lists", "generator"],
)
def test_what_is_no_image(parser: Parser, images: Any):
    with pytest.raises(ValueError, match=r"found (an image that is|images that are) a "):
        parser.parse(images)


@pytest.mark.parametrize(
    ("kind", "size"), [("segformer-tiny", (16, 8)), ("schp-tiny", (64, 1)), ("schp-tiny", (1, 1))]
)
def test_an_input_that_the_network_makes_nothing_of(kind: str, size: tuple[int, int]):
    with pytest.raises(ReidpipeError, match=f"input of {size[0]}x{size[1]}, of which '{kind}'"):
        load_parser(kind, input_size=size)


def test_a_scale_that_leaves_no_pixel():
    with pytest.raises(ReidpipeError, match="found input 1x0; expected sides from 1"):
        load_parser("schp-tiny", input_size=(16, 8)).parse(IMAGES, scales=(0.1,))


def test_scales_that_are_fine():
    assert _scales("0.1,1,8") == (0.1, 1.0, 8.0)


ODD_SIZES = [(0, 0), (16, 0), (-1, 4), (16,), 16, (2.5, 4), "88", (True, 8), {8, 9}, (2**31, 2**31)]


@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_sizes_of_maps(parser: Parser, size: Any):
    with pytest.raises(ValueError, match=r"found size .*expected \(H, W\)"):
        parser.parse(IMAGES, size)


def test_a_scale_below_what_the_network_can_read():
    with pytest.raises(ReidpipeError, match="found input 48x24; expected sides from 32"):
        load_parser("segformer-tiny").parse(IMAGES, scales=(0.25,))


def test_scales_of_a_network_of_one_size(parser: Parser):
    fixed = replace(parser, one_size=True)
    assert len(fixed.parse(IMAGES, scales=(1.0,)).label) == 1
    with pytest.raises(
        ReidpipeError, match=r"found scales '0.75,1.0' for schp-tiny, whose network"
    ):
        fixed.parse(IMAGES, scales=(0.75, 1.0))

    def grid(inputs: torch.Tensor) -> torch.Tensor:
        return parser.network(inputs.view(-1, 3, 192, 96))

    odd = replace(parser, network=grid)
    odd.check("odd")
    with pytest.raises(
        ReidpipeError, match="192x96 at scales 0.75,1.0, of which 'odd'.*--scales out"
    ):
        odd.check("odd", (0.75, 1.0))


def test_an_eomt_takes_no_scales(tmp_path: Path):
    from transformers import EomtConfig, EomtForUniversalSegmentation

    config = EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16,
        num_blocks=1, num_queries=4, num_upscale_blocks=1, id2label=dict(enumerate(LIP.names)),
    )  # fmt: skip
    EomtForUniversalSegmentation(config).save_pretrained(tmp_path)
    eomt = load_parser(f"hf:{tmp_path}")
    assert eomt.input_size == (64, 64)
    with pytest.raises(ReidpipeError, match=f"found scales '0.75' for hf:{tmp_path.name}"):
        eomt.parse(IMAGES, scales=(0.75,))
    # The command says so before anything is made.
    terminal, index = Terminal(Workspace(tmp_path), as_json=True), Step("index", {"dataset": "a"})
    with pytest.raises(ReidpipeError, match=r"found scales '0.75,1.0' for .*leave out other"):
        maps_step(terminal, index, f"hf:{tmp_path}", scales=(0.75, 1.0))
    maps_step(terminal, index, f"hf:{tmp_path}")


def test_weights_of_another_network_name_the_first_missing_and_the_first_unknown():
    state = load_file(PACKAGED / "schp-tiny.safetensors")
    with pytest.raises(ReidpipeError) as caught:
        load_parser("segformer-tiny", state)
    text = str(caught.value)
    assert " weights missing in " in text and f"unknown, first '{min(state)}'" in text


def test_one_weight_too_many_is_named_once():
    state = load_file(PACKAGED / "segformer-tiny.safetensors") | {"zebra": torch.zeros(1)}
    with pytest.raises(ReidpipeError, match="found 1 weights unknown in .*first 'zebra'; expected"):
        load_parser("segformer-tiny", state)
