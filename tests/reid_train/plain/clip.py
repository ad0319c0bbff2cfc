"""CLIP's towers (Radford et al. 2021) by the names of OpenAI's files, every position computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
POSITIONS = 77


def text(
    state: State, embedded: Tensor, ends: Tensor, *, heads: int, deep: Sequence[Tensor] = ()
) -> Tensor:
    """Embedded prompts N,77,width, positions not added -> N,D. deep: vectors n,width that overwrite
    what follows the start token before block 1, 2, ... (MaPLe).
    """
    length = embedded.shape[1]
    x = embedded + state["positional_embedding"][:length]
    mask = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)
    for number in range(depth(state, "transformer.")):
        if 0 < number <= len(deep):
            vectors = deep[number - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], vectors, x[:, 1 + vectors.shape[1] :]], dim=1)
        x = block(state, f"transformer.resblocks.{number}.", x, heads, mask)
    x = norm(state, "ln_final.", x)
    return (
        torch.stack([row[end] for row, end in zip(x, ends, strict=True)]) @ state["text_projection"]
    )


def image(
    state: State,
    pixels: Tensor,
    *,
    heads: int,
    first: Tensor | None = None,
    deep: Sequence[Tensor] = (),
) -> Tensor:
    """Normalised pixels N,3,H,W -> N,D. first: vectors n,width after the patches, which have no
    position; deep: vectors that take their places before block 1, 2, ... (MaPLe).
    """
    kernel = state["visual.conv1.weight"]
    side = kernel.shape[-1]
    patches = F.unfold(pixels, side, stride=side).transpose(1, 2) @ kernel.flatten(1).T
    token = state["visual.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([token, patches], dim=1) + state["visual.positional_embedding"]
    count = 0
    if first is not None:
        count = len(first)
        x = torch.cat([x, first.expand(len(x), -1, -1)], dim=1)
    x = norm(state, "visual.ln_pre.", x)
    for number in range(depth(state, "visual.transformer.")):
        if 0 < number <= len(deep):
            x = torch.cat([x[:, : x.shape[1] - count], deep[number - 1].expand(len(x), -1, -1)], 1)
        x = block(state, f"visual.transformer.resblocks.{number}.", x, heads, None)
    return norm(state, "visual.ln_post.", x[:, 0]) @ state["visual.proj"]


def depth(state: State, tower: str) -> int:
    start = f"{tower}resblocks."
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})


def norm(state: State, prefix: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    scale, shift = state[f"{prefix}weight"], state[f"{prefix}bias"]
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}weight"].T + state[f"{name}bias"]


def block(state: State, prefix: str, x: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    normed = norm(state, f"{prefix}ln_1.", x)
    joined = normed @ state[f"{prefix}attn.in_proj_weight"].T + state[f"{prefix}attn.in_proj_bias"]
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in joined.chunk(3, dim=-1)
    )
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask
    attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    x = x + linear(state, f"{prefix}attn.out_proj.", attended)
    hidden = linear(state, f"{prefix}mlp.c_fc.", norm(state, f"{prefix}ln_2.", x))
    return x + linear(state, f"{prefix}mlp.c_proj.", hidden * torch.sigmoid(1.702 * hidden))


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over rows; the target is (1 - e) onehot + e / C."""
    chances = logits - logits.exp().sum(1, keepdim=True).log()
    right = chances[torch.arange(len(labels)), labels]
    return -((1 - smoothing) * right + smoothing * chances.mean(1)).mean()
