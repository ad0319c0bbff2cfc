"""Learnt words in front of class names: CoOp (Zhou et al., IJCV 2022), CoCoOp (Zhou et al., CVPR
2022), and the tokens both stand among.

A learner holds what trains and nothing else, under the names of the authors' files. The words
around its vectors (their ``token_prefix`` and ``token_suffix``) are looked up in the frozen token
embedding whenever they are needed, so class names may change and no stale copy can be loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.models.prompts import tokenise

POSITIONS = ("end", "middle", "front")
NAME = "{}"

PHOTO = "a photo of a {}."
# The seven of CLIP's ImageNet templates that CoOp's zero-shot ensemble adds to a data set's own.
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


class Wording(NamedTuple):
    """Prompts of C classes as tokens. ids: int64 C,L, cut after the longest; ends: int64 C, each
    row's end token; start: where the class name begins, the same in every row; lengths: tokens of
    each name.
    """

    ids: Tensor
    ends: Tensor
    start: int
    lengths: tuple[int, ...]


def fill_template(template: str, class_names: Sequence[str]) -> list[str]:
    """One sentence per class; "_" in a name becomes a space.

    Raises ReidpipeError for a template without one "{}" and for an empty or missing name.
    """
    if template.count(NAME) != 1:
        raise ReidpipeError(
            f"found template '{template}'; expected one {NAME} where the class name goes; "
            f"type for example '{PHOTO}'"
        )
    if isinstance(class_names, str) or not class_names:
        raise ReidpipeError("found no list of class names; expected one or more; type ['cat']")
    sentences = []
    for label, name in enumerate(class_names):
        words = name.replace("_", " ").strip() if isinstance(name, str) else ""
        if not words:
            raise ReidpipeError(
                f"found class name {name!r} for label {label}; expected words; name every class"
            )
        sentences.append(template.replace(NAME, words))
    return sentences


def word_prompts(
    class_names: Sequence[str],
    *,
    n_ctx: int | None = None,
    template: str | None = None,
    context: int = 77,
) -> Wording:
    """The tokens a learner of ``n_ctx`` vectors replaces the first ``n_ctx`` words of: those of
    ``template``, or "X X ... X {}." when there is none. ``n_ctx`` None: all before the name.

    Raises ReidpipeError when ``n_ctx`` reaches into the name, and for a prompt longer than
    ``context`` tokens.
    """
    if template is None:
        template = " ".join(["X"] * (n_ctx or 0)) + f" {NAME}."
    template = template.replace("_", " ")
    sentences = fill_template(template, class_names)
    before = _length(template.split(NAME)[0], context)
    if n_ctx is not None and not 0 < n_ctx <= before:
        raise ReidpipeError(
            f"found {n_ctx} learnt vectors for the {before} words before the name in '{template}'; "
            f"expected 1 to {before}; give another template, or None"
        )
    ids = tokenise(sentences, context=context)
    ends = ids.argmax(dim=1)
    lengths = [_length(name.replace("_", " "), context) for name in class_names]
    return Wording(ids[:, : int(ends.max()) + 1], ends, before + 1, tuple(lengths))


def _length(text: str, context: int) -> int:
    """Tokens of ``text`` alone."""
    return int(tokenise([text], context=context).argmax()) - 1


def arrangement(wording: Wording, n_ctx: int, position: str) -> Tensor:
    """int64 C,L: at each place of the final prompt, the place in "vectors, name, rest" that moves
    there, for a class name at the ``end`` of the vectors, in their ``middle`` (after the first
    ``n_ctx // 2``) or in ``front`` of them. End tokens stay where they are.

    Raises ReidpipeError for another position, and when words stand between vectors and name.
    """
    if position not in POSITIONS:
        raise ReidpipeError(
            f"found position '{position}'{nearest(position, POSITIONS)}; expected one of "
            f"{', '.join(POSITIONS)}; type position='end'"
        )
    if position != "end" and wording.start != 1 + n_ctx:
        raise ReidpipeError(
            f"found position '{position}' with {wording.start - 1 - n_ctx} fixed words between the "
            f"{n_ctx} learnt vectors and the name; expected none; leave template out"
        )
    ahead = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    rows = []
    for length in wording.lengths:
        vectors = list(range(1, 1 + n_ctx))
        name = list(range(1 + n_ctx, 1 + n_ctx + length))
        rest = range(1 + n_ctx + length, wording.ids.shape[1])
        rows.append([0, *vectors[:ahead], *name, *vectors[ahead:], *rest])
    return torch.tensor(rows)


def replace_words(words: Tensor, vectors: Tensor, *, first: int = 1) -> Tensor:
    """Words N,L,width with ``vectors`` n,width (or N,n,width) in place of n of them."""
    vectors = vectors.expand(len(words), *vectors.shape[-2:])
    return torch.cat([words[:, :first], vectors, words[:, first + vectors.shape[1] :]], dim=1)


def _small(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).normal_(std=0.02))


class CoOpLearner(nn.Module):
    """``ctx`` n_ctx,width shared by all classes, or C,n_ctx,width with ``classes`` C (CSC), drawn
    from N(0, 0.02^2) by torch's generator.

    ``forward(words C,L,width) -> C,L,width``: the embedded prompts with the vectors in place of
    the words after the start token.
    """

    def __init__(self, *, width: int = 512, n_ctx: int = 16, classes: int | None = None) -> None:
        super().__init__()
        self.ctx = _small(n_ctx, width) if classes is None else _small(classes, n_ctx, width)

    def forward(self, words: Tensor) -> Tensor:
        return replace_words(words, self.ctx)


class CoCoOpLearner(nn.Module):
    """``ctx`` n_ctx,width and the Meta-Net, which turns an image into one vector added to all of
    them: Linear(D, D // 16), ReLU, Linear(D // 16, width).

    ``forward(image features N,D) -> N,n_ctx,width``; features of any length, normalised inside.
    """

    def __init__(
        self, *, width: int = 512, dim: int = 512, n_ctx: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__()
        hidden = hidden or max(1, dim // 16)
        self.ctx = _small(n_ctx, width)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(dim, hidden),
                relu=nn.ReLU(),
                linear2=nn.Linear(hidden, width),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        bias = self.meta_net(F.normalize(features, dim=-1))
        return self.ctx + bias[:, None]  # N,n_ctx,width
