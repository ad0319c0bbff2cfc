"""One residual block of CLIP's transformers, computed where it is needed and nowhere else.

The parameters are open_clip's (``ln_1``, ``attn``, ``ln_2``, ``mlp``); what differs is the work:
queries, keys and values stay where one product leaves them, and a last block that is read at one
row makes no key and no value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]  # of one block, each N,heads,L,width/heads


def block(
    module: Any,
    x: Tensor,
    seen: Tensor | None = None,
    past: KeysValues | None = None,
    rows: Tensor | None = None,
) -> tuple[Tensor, KeysValues]:
    """x N,L,width through a block, at every position, or at ``rows`` N,R only (-> N,R,width).

    ``seen`` bool L,Lp+L says which keys, those of ``past`` (1,heads,Lp,...) first, a position sees;
    None: all. Also returns the keys and values of x.
    """
    normed = module.ln_1(x)
    weight, bias, width = module.attn.in_proj_weight, module.attn.in_proj_bias, x.shape[-1]
    if rows is None:
        query, key, value = F.linear(normed, weight, bias).chunk(3, dim=-1)
    else:
        index = torch.arange(len(x), device=x.device)[:, None], rows
        query = F.linear(normed[index], weight[:width], bias[:width])
        key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        x = x[index]  # N,R,width
        seen = None if seen is None else seen[rows][:, None]  # N,1,R,Lp+L
    query, key, value = (
        y.unflatten(-1, (module.attn.num_heads, -1)).transpose(1, 2) for y in (query, key, value)
    )  # N,heads,L,width/heads
    keys_values = key, value
    if past is not None:
        key, value = (
            torch.cat([old.expand(len(x), -1, -1, -1), new], dim=2)
            for old, new in zip(past, keys_values, strict=True)
        )
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    x = x + module.attn.out_proj(attended.transpose(1, 2).flatten(2))
    return x + module.mlp(module.ln_2(x)), keys_values


def first_row(module: Any, x: Tensor) -> Tensor:
    """The first row of ``block(module, x)`` alone: N,L,width -> N,width, by :func:`asked`."""
    normed = module.ln_1(x)
    weights = module.attn.in_proj_weight.chunk(3)
    biases = module.attn.in_proj_bias.chunk(3)
    query = F.linear(normed[:, 0], weights[0], biases[0])
    attended = asked(query, normed, weights[1:], biases[1:], heads=module.attn.num_heads)
    row = x[:, 0] + module.attn.out_proj(attended)
    return row + module.mlp(module.ln_2(row))


def asked(
    query: Tensor,
    positions: Tensor,
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor, ...],
    *,
    heads: int,
) -> Tensor:
    """Attention of one query for each image, N,C -> N,C, to ``positions`` N,L,C whose keys and
    values are products with ``weights`` (two C,C) plus ``biases`` (two C).

    Neither is computed: the product of a query with a key is that of key weights times query with
    the position, and the mean of values is the value weights times the mean of positions. That is
    exact, and 2 heads L C operations instead of 2 L C^2.
    """
    (key, value), (key_bias, value_bias) = weights, biases
    query = query.unflatten(1, (heads, -1)) * (query.shape[1] // heads) ** -0.5  # N,heads,d
    probes = (query.transpose(0, 1) @ key.unflatten(0, (heads, -1))).transpose(0, 1)  # N,heads,C
    # The bias of the keys is the same for all positions: no soft-max sees it, and its gradient is
    # the 0 that an optimiser expects.
    level = (query * key_bias.unflatten(0, (heads, -1))).sum(2, keepdim=True)
    shares = (probes @ positions.transpose(1, 2) + level).softmax(2)  # N,heads,L
    means = shares.to(positions.dtype) @ positions  # N,heads,C
    values = means.transpose(0, 1) @ value.unflatten(0, (heads, -1)).transpose(1, 2)  # heads,N,d
    return values.transpose(0, 1).flatten(1) + value_bias
