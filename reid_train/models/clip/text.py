"""CLIP's text encoder (Radford et al. 2021), computing no position twice and none in vain.

The modules are open_clip's; what differs is the order of the work. The encoder is causal, so a
position depends on those before it alone: positions after the last end token are never computed,
positions that all prompts share are computed once, and what follows a shared prefix is laid beside
it in one sequence whose attention mask is a tree. The last block is evaluated at end tokens only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.package import TextTransformer
from reid_train.models.clip.tags import activation_layer, check_sizes, tag_of, usual_activation
from reid_train.models.pretrained import text_state

KeysValues = tuple[Tensor, Tensor]  # of one block, each N,heads,L,width/heads


class ClipText(TextTransformer):
    """Text tower with CLIP's own parameter names (``token_embedding.weight``,
    ``positional_embedding``, ``transformer.resblocks.*``, ``ln_final.*``, ``text_projection``).

    ``forward(ids N,context) -> N,D`` is open_clip's plain pass over every position, end token at
    argmax(ids); the ``encode*`` methods give the same rows for less. No row is normalised.
    ``pretrained`` is "none", "openai", "open_clip:ARCH/TAG" or a CLIP file of ``architecture``
    ("ViT-B-16", or "RN50" with ``output_dim`` 1024; ``weights`` is the folder of OpenAI's
    downloads). ``activation`` is "quick_gelu" or "gelu"; None: what the weights were trained with.
    Weights train unless the caller freezes them. The smaller ``width``, ``layers``, ``heads`` serve
    tests and tiny recipes.
    """

    def __init__(
        self,
        *,
        width: int = 512,
        layers: int = 12,
        heads: int = 8,
        output_dim: int = 512,
        context: int = 77,
        vocabulary: int = 49408,
        architecture: str = "ViT-B-16",
        activation: str | None = None,
        pretrained: str = "none",
        weights: Path | None = None,
    ) -> None:
        if (tag := tag_of(pretrained)) is not None:
            sizes = {"width": width, "layers": layers, "heads": heads}
            check_sizes(tag, {**sizes, "output_dim": output_dim, "context": context}, "text")
        super().__init__(
            context_length=context,
            vocab_size=vocabulary,
            width=width,
            heads=heads,
            layers=layers,
            output_dim=output_dim,
            act_layer=activation_layer(activation or usual_activation(architecture, pretrained)),
        )
        if pretrained != "none":
            load_strict(self, text_state(pretrained, architecture, weights=weights),
                        source=f"{pretrained} (text tower)")  # fmt: skip

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Tokenised sentences int64 N,L -> N,D, cut after the longest. The end token is the first
        greatest id of a row, as in CLIP; the leading ids that all rows share are computed once.
        """
        same = (ids == ids[:1]).all(dim=0)
        ends = ids.argmax(dim=1)
        common = min(int(same.long().cumprod(0).sum()), int(ends.min()))
        ids = ids[:, : int(ends.max()) + 1]
        return self.encode(self.token_embedding(ids), ends, common=common)

    def encode(self, embedded: Tensor, ends: Tensor, *, common: int = 0) -> Tensor:
        """Token embeddings N,L,width (positions not yet added) and the position of each row's end
        token, int64 N -> N,D.

        L is at most the context length. ``common`` leading positions, fewer than the first end,
        are the same in every row and computed once; their gradient goes to row 0.
        Raises ValueError when L is too great or the rows differ within ``common``.
        """
        length = int(ends.max()) + 1
        if embedded.shape[1] > self.context_length or length > embedded.shape[1]:
            raise ValueError(
                f"end token at {length - 1} of {embedded.shape[1]} positions; "
                f"expected it among them and at most {self.context_length} positions"
            )
        x = embedded[:, :length] + self.positional_embedding[:length]
        past = self._memory(x, common)
        seen = _causal(length, x)[common:]  # what each remaining position attends to
        return self._at(x[:, common:], seen, past, (ends - common)[:, None])[:, 0]

    def encode_shared(
        self,
        prefix: Tensor,
        suffixes: Tensor,
        ends: Tensor,
        *,
        common: int = 0,
        chunk: int = 16,
    ) -> Tensor:
        """Every prefix continued by every suffix: embeddings C,L0,width and P,L1,width, and the
        position of each end token within its suffix, int64 P -> C,P,D.

        Equals :meth:`encode` of the C*P joined rows. A prefix is computed once for its P suffixes;
        they lie beside it in one sequence, each at positions L0 and on, seeing the prefix and
        itself, so gradients reach the prefix from all. ``common`` as in :meth:`encode`, over the
        prefixes. With more than ``chunk`` prefixes the backward pass computes the activations of
        ``chunk`` of them at a time again instead of keeping all (12 blocks of width 512 and 20 body
        parts: about 30 MB per prefix in float32).
        Raises ValueError when L0 + L1 exceeds the context length.
        """
        first, depth = prefix.shape[1], suffixes.shape[1]
        if first + depth > self.context_length or int(ends.max()) >= depth:
            raise ValueError(
                f"{first} + {depth} positions, end token at {int(ends.max())} of the suffix; "
                f"expected at most {self.context_length}, and the end token within the suffix"
            )
        steps = torch.arange(depth, device=ends.device)
        row, step = (steps <= ends[:, None]).nonzero(as_tuple=True)  # S positions before ends
        place = self.positional_embedding
        branches = (suffixes + place[first : first + depth])[row, step]  # S,width
        stem = prefix + place[:first]  # C,L0,width
        past = self._memory(stem, common)
        beside = (row[:, None] == row) & (step <= step[:, None])  # S,S
        seen = torch.cat([beside.new_ones(len(row), first), beside], dim=1)
        above = F.pad(_causal(first, stem)[common:], (0, len(row)))
        seen = torch.cat([above, seen])  # L0-common+S, L0+S
        rows = first - common + (ends + 1).cumsum(0) - 1  # P, end tokens among what remains

        def part(stems: Tensor) -> Tensor:
            x = torch.cat([stems, branches.expand(len(stems), -1, -1)], dim=1)
            return self._at(x, seen, past, rows.expand(len(stems), -1))

        return chunked(part, stem[:, common:], chunk)

    def _memory(self, x: Tensor, common: int) -> list[KeysValues | None]:
        """Keys and values of the first ``common`` positions in every block, from row 0 of x."""
        if not common:
            return [None] * len(self.transformer.resblocks)
        shared = x[:1, :common]
        if not torch.equal(x[:, :common], shared.expand(len(x), -1, -1)):
            raise ValueError(f"rows differ within their first {common} positions")
        seen = _causal(common, x)
        memory: list[KeysValues | None] = []
        for block in self.transformer.resblocks:
            shared, keys_values = _block(block, shared, seen, None, None)
            memory.append(keys_values)
        return memory

    def _at(self, x: Tensor, seen: Tensor, past: list[KeysValues | None], rows: Tensor) -> Tensor:
        """x N,L,width with positions added, through all blocks; projected at rows N,R -> N,R,D."""
        blocks = list(self.transformer.resblocks)
        for block, memory in zip(blocks[:-1], past[:-1], strict=True):
            x, _ = _block(block, x, seen, memory, None)
        x, _ = _block(blocks[-1], x, seen, past[-1], rows)
        assert isinstance(self.text_projection, Tensor)
        return self.ln_final(x) @ self.text_projection


def _causal(length: int, like: Tensor) -> Tensor:
    """bool L,L: True where a row may attend to a column."""
    return torch.ones(length, length, dtype=torch.bool, device=like.device).tril()


def _block(
    block: Any, x: Tensor, seen: Tensor, past: KeysValues | None, rows: Tensor | None
) -> tuple[Tensor, KeysValues]:
    """One residual block at every position, or at ``rows`` N,R only (-> N,R,width).

    ``seen`` bool L,Lp+L says which keys, those of ``past`` (1,heads,Lp,...) first, a position sees.
    Also returns the keys and values of x.
    """
    normed = block.ln_1(x)
    weight, bias, width = block.attn.in_proj_weight, block.attn.in_proj_bias, x.shape[-1]
    if rows is None:
        query, key, value = F.linear(normed, weight, bias).chunk(3, dim=-1)
    else:
        index = torch.arange(len(x), device=x.device)[:, None], rows
        query = F.linear(normed[index], weight[:width], bias[:width])
        key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        x, seen = x[index], seen[rows][:, None]  # N,R,width and N,1,R,Lp+L
    query, key, value = (
        y.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2) for y in (query, key, value)
    )  # N,heads,L,width/heads
    keys_values = key, value
    if past is not None:
        key, value = (
            torch.cat([old.expand(len(x), -1, -1, -1), new], dim=2)
            for old, new in zip(past, keys_values, strict=True)
        )
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    x = x + block.attn.out_proj(attended.transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x)), keys_values


def chunked(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int) -> Tensor:
    """``function`` over ``chunk`` rows of x at a time; of several chunks none keeps activations."""
    if len(x) <= chunk:
        return function(x)
    if not torch.is_grad_enabled():
        return torch.cat([function(piece) for piece in x.split(chunk)])
    pieces = []
    for piece in x.split(chunk):
        # without randomness in it there is none to replay
        done = checkpoint(function, piece, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(done, Tensor)
        pieces.append(done)
    return torch.cat(pieces)
