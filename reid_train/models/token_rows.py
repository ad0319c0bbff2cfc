"""A token embedding that is stored as its trained rows alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

TABLE, IDS, ROWS = "token_embedding.weight", "token_embedding.ids", "token_embedding.rows"
VOCABULARY = 49408  # of CLIP's tokeniser
_STD, _SEED = 0.02, 0


def expand(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``token_embedding.ids`` int64 V and ``.rows`` V,width -> the table 49408,width, in place of
    both; a state without them is returned as it is.

    Tokens that no training sentence had get N(0, 0.02) from a fixed seed, what CLIP initialises
    them with: a word the model never read means nothing, but differs from every other such word.
    """
    expanded = dict(state)
    if IDS in expanded:
        ids, rows = expanded.pop(IDS), expanded.pop(ROWS).float()
        generator = torch.Generator().manual_seed(_SEED)
        table = torch.randn(VOCABULARY, rows.shape[1], generator=generator) * _STD
        table[ids.long()] = rows
        expanded[TABLE] = table
    return expanded
