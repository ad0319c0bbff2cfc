"""Models that answer with queries decide as transformers' own post-processing does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from parsing_models import load_parser
from pipeline.labels.sets import ATR


def test_mask2former_decides_as_its_post_processing(tmp_path: Path):
    blocks = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    images: Any = blocks.repeat(8, 1).repeat(8, 2)
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    swin: Any = SwinConfig
    config = Mask2FormerConfig(
        backbone_config=swin(
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            window_size=2,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=12,
        id2label=dict(enumerate(ATR.names)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mask2FormerForUniversalSegmentation(config).eval()
        # As initialised, all queries and all pixels agree.
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding):
                torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        model.class_predictor.weight.data *= 3
    model.save_pretrained(tmp_path)
    size = {"height": 64, "width": 64}
    processor = Mask2FormerImageProcessor(size=size)
    processor.save_pretrained(tmp_path)

    parser: Any = load_parser(f"hf:{tmp_path}", label_set="atr")
    assert parser.input_size == (64, 32)
    assert parser.attributes()["architecture"] == "Mask2FormerForUniversalSegmentation"
    inputs = parser.to_input(images)
    with torch.inference_mode():
        outputs: Any = model(pixel_values=inputs)
    told: Any = processor.post_process_semantic_segmentation(
        outputs, [(256, 128)] * 3, return_segmentation_scores=True
    )
    expected = np.stack([each["segmentation"].numpy() for each in told])
    scores = np.stack([each["segmentation_scores"].numpy() for each in told])
    assert len(np.unique(expected)) > 2
    maps = parser.parse(images)
    np.testing.assert_array_equal(maps.label, expected)
    share = scores.max(1) / scores.sum(1)
    np.testing.assert_allclose(np.asarray(maps.confidence), share, rtol=1e-4)
