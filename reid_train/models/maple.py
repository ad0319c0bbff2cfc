"""MaPLe: prompts in both towers, the image's made from the text's (Khattak et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid_train.models.clip.package import VisionTransformer
from reid_train.models.clip.text import ClipText
from reid_train.models.learners import replace_words


class DeepPrompts(NamedTuple):
    """Vectors for the entry of block 0, 1, ... of each tower: J times n,width and n,image width."""

    text: list[Tensor]
    image: list[Tensor]


class MapleLearner(nn.Module):
    """``forward() -> DeepPrompts``. Parameters, as in the authors' files: ``ctx`` n_ctx,width and
    ``proj`` for the entry of both towers, ``compound_prompts_text.i`` and
    ``compound_prompt_projections.i`` for the blocks 1 to depth-1; vectors from N(0, 0.02^2) by
    torch's generator. All image vectors are projections of text vectors.

    Everything is computed in the parameters' own precision. The authors keep the deep vectors in
    float32 and cast them to half in every block, which moves a logit by about 1e-5.
    """

    def __init__(
        self, *, width: int = 512, image_width: int = 768, n_ctx: int = 2, depth: int = 9
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; expected 1 (prompts at the entry only) or more")

        self.depth = depth

        def vectors() -> nn.Parameter:
            return nn.Parameter(torch.empty(n_ctx, width).normal_(std=0.02))

        self.ctx = vectors()
        self.proj = nn.Linear(width, image_width)
        self.compound_prompts_text = nn.ParameterList([vectors() for _ in range(depth - 1)])
        # All begin alike, as the authors clone one layer.
        projection = nn.Linear(width, image_width)
        self.compound_prompt_projections = nn.ModuleList(
            [deepcopy(projection) for _ in range(depth - 1)]
        )

    def forward(self) -> DeepPrompts:
        text = [self.ctx, *self.compound_prompts_text]
        projections = [self.proj, *self.compound_prompt_projections]
        return DeepPrompts(text, [p(t) for p, t in zip(projections, text, strict=True)])


def encode_images(tower: VisionTransformer, x: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """Normalised images N,3,H,W -> N,D, not normalised, with ``prompts[i]`` n,width in block i.

    The first stands after the patches: appended when positions have been added, before ``ln_pre``,
    so the class token stays first and the prompts have no position. Each later one overwrites what
    the blocks before have made of it.
    """
    patches = tower.conv1(x).flatten(2).transpose(1, 2)  # N,T,width
    token = tower.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
    tokens = torch.cat([token, patches], dim=1) + tower.positional_embedding
    first = prompts[0].expand(len(x), -1, -1)
    tokens = tower.ln_pre(torch.cat([tokens, first], dim=1))
    place = patches.shape[1] + 1
    for index, block in enumerate(tower.transformer.resblocks):
        if 0 < index < len(prompts):
            tokens = replace_words(tokens, prompts[index], first=place)
        tokens = block(tokens)
    return tower.ln_post(tokens[:, 0]) @ tower.proj


def encode_texts(
    tower: ClipText, embedded: Tensor, ends: Tensor, prompts: Sequence[Tensor]
) -> Tensor:
    """Embedded prompts N,L,width, ``prompts[0]`` among them and positions not added, and their
    end tokens int64 N -> N,D, not normalised; the vectors after the start token are overwritten by
    ``prompts[i]`` n,width before block i > 0. Nothing after the last end token is computed.
    """
    length = int(ends.max()) + 1
    x = embedded[:, :length] + tower.positional_embedding[:length]
    mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
    for index, block in enumerate(tower.transformer.resblocks):
        if 0 < index < len(prompts):
            x = replace_words(x, prompts[index])
        x = block(x, attn_mask=mask)
    rows = torch.arange(len(x), device=x.device)
    assert isinstance(tower.text_projection, Tensor)
    return tower.ln_final(x[rows, ends]) @ tower.text_projection
