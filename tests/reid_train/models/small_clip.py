"""CLIPs for tests: a small one, open_clip's own and so also the reference; a recorded text side."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import VisionTransformer
from torch import Tensor

from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.towers import Towers

NAMES = ("cat", "golden_retriever", "bird_of_paradise")  # 1, 2 and 3 tokens


@cache
def small_clip() -> CLIP:
    """Image tower 64 wide, 6 blocks, 64x64 pixels; text tower 128 wide, 4 blocks; joint width 32.
    Weights are large enough that every block matters. Not to be changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(
            embed_dim=32,
            vision_cfg=CLIPVisionCfg(layers=6, width=64, patch_size=16, image_size=64),
            text_cfg=CLIPTextCfg(layers=4, width=128, heads=2),
            quick_gelu=True,
        )
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                scale = 0.5 if "embedding" in name else 1.5 * parameter[0].numel() ** -0.5
                torch.nn.init.normal_(parameter, std=scale)
            elif "ln_" not in name and name != "logit_scale":
                torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False).eval()


def small_state() -> dict[str, Tensor]:
    return {key: value.clone() for key, value in small_clip().state_dict().items()}


def pictures(count: int, seed: int = 0) -> Tensor:
    """N,3,64,64 in 0..1."""
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def recorded_text_side(shared: Path, fill: Any) -> Towers:
    """The text tower and scale of the recorded ViT-B/16. Its image tower, which takes longest to
    fill, is a stand-in: its features are recorded.
    """
    layout = json.loads((shared / "golden" / "prompts_clip_vitb16.keys.json").read_text())
    state = {
        key: torch.as_tensor(fill.fill(key, tuple(shape), dtype))
        for key, (shape, dtype) in layout.items()
        if not key.startswith("visual.")
    }
    text, scale = ClipText(), state.pop("logit_scale")
    load_strict(text, state)
    return Towers(VisionTransformer(16, 16, 8, 1, 1, 4.0, output_dim=512), text, scale)
