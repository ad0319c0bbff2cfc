"""The definitions of CMC, AP and INP written out plainly, one full stable sort per query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plain:
    cmc: np.ndarray
    ap: np.ndarray
    inp: np.ndarray
    order: list[list[int]]


def plain_metrics(dist, q_pids, g_pids, leave_out, max_rank: int) -> Plain:
    """``leave_out(q, g)`` tells which gallery image g is hidden from query q."""
    ap, inp, firsts, orders = [], [], [], []
    for q in range(len(dist)):
        order = [g for g in sorted(range(len(g_pids)), key=lambda g: (dist[q][g], g))]
        order = [g for g in order if not leave_out(q, g)]
        orders.append(order)
        ranks = [rank for rank, g in enumerate(order, 1) if g_pids[g] == q_pids[q]]
        if not ranks:
            ap.append(np.nan)
            inp.append(np.nan)
            continue
        ap.append(sum(k / rank for k, rank in enumerate(ranks, 1)) / len(ranks))
        inp.append(len(ranks) / ranks[-1])
        firsts.append(ranks[0])
    cmc = [
        sum(first <= r for first in firsts) / max(1, len(firsts)) for r in range(1, max_rank + 1)
    ]
    return Plain(np.array(cmc), np.array(ap), np.array(inp), orders)
