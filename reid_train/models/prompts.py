"""Prompts that describe identities and their body parts, and the rows a text tower gives for them.

Identity prompts are CLIP-ReID's (Li et al. 2023), part prompts pi-VL's (arXiv 2308.02738 v1 eq. 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip.text import ClipText

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

SUBJECTS = ("person", "vehicle")


@cache
def _tokenizer() -> SimpleTokenizer:
    # Alone, which ``clip.package`` has made possible: its vocabulary is read by who has texts.
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def tokenise(texts: Sequence[str], *, context: int = 77) -> Tensor:
    """Sentences -> CLIP's token ids, int64 N,context: start, text, end (49407), zeros.

    Raises ReidpipeError for a sentence that does not fit (open_clip cuts it silently).
    """
    tokenizer = _tokenizer()
    for text in texts:
        length = len(tokenizer.encode(text)) + 2
        if length > context:
            raise ReidpipeError(
                f"found a text of {length} tokens ('{text[:40]}...'); expected at most {context}; "
                "shorten it"
            )
    return tokenizer(list(texts), context_length=context)


class Embedded(NamedTuple):
    """Token embeddings N,L,width, positions not added, and each row's end token, int64 N."""

    embedded: Tensor
    ends: Tensor


class IdentityPrompts(nn.Module):
    """The prompt "A photo of a X X X X person." with vectors learnt per identity for the X's.

    ``cls_ctx`` C,tokens,width is the only parameter, N(0, 0.02); ``token_prefix`` 1,5,width and
    ``token_suffix`` 1,68,width are the template's embeddings before and after it. All three carry
    the names of CLIP-ReID's checkpoints. The order of the C rows is the caller's label order and
    must be kept with them (the authors' is a hash order). ``subject`` is "person" or "vehicle".
    """

    token_prefix: Tensor
    token_suffix: Tensor
    possessive: Tensor

    def __init__(
        self, tower: ClipText, classes: int, *, subject: str = "person", tokens: int = 4
    ) -> None:
        super().__init__()
        if subject not in SUBJECTS:
            raise ReidpipeError(
                f"found prompts about '{subject}'; expected {' or '.join(SUBJECTS)}; "
                "type one of them"
            )
        self.subject, self.tokens = subject, tokens
        self._opening = f"A photo of a {' '.join(['X'] * tokens)} {subject}"
        before, after, of = self._pieces(tower)
        self.end = int(_template(f"{self._opening}.", tower).argmax())
        self.cls_ctx = nn.Parameter(before.new_empty(classes, tokens, before.shape[-1]))
        nn.init.normal_(self.cls_ctx, std=0.02)
        self.register_buffer("token_prefix", before)
        self.register_buffer("token_suffix", after)
        self.register_buffer("possessive", of, persistent=False)

    @torch.no_grad()
    def _pieces(self, tower: ClipText) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings before the X's, after them, and of "person's": each 1,length,width."""
        plain = tower.token_embedding(_template(f"{self._opening}.", tower))
        owner = tower.token_embedding(_template(f"{self._opening}'s .", tower))
        start = len(_tokenizer().encode("A photo of a")) + 1
        stop = start + self.tokens
        return plain[:, :start], plain[:, stop:], owner[:, stop : stop + self._owner_length]

    @property
    def _owner_length(self) -> int:
        return len(_tokenizer().encode(f"{self.subject}'s"))

    def refresh(self, tower: ClipText) -> None:
        """Take the template's embeddings again from ``tower``, whose weights were replaced."""
        pieces = self._pieces(tower)
        for own, new in zip(
            (self.token_prefix, self.token_suffix, self.possessive), pieces, strict=True
        ):
            own.copy_(new)

    def forward(self, labels: Tensor) -> Embedded:
        """Identity rows int64 N -> prompts N,L,width up to their end token."""
        prompts = self._joined(labels, self.token_suffix)[:, : self.end + 1]
        return Embedded(prompts, labels.new_full((len(labels),), self.end))

    def prefix(self, labels: Tensor) -> Tensor:
        """Identity rows int64 N -> N,11,width: "A photo of a X X X X person's"."""
        return self._joined(labels, self.possessive)

    def part_suffixes(self, tower: ClipText, names: Sequence[str]) -> Embedded:
        """Part names -> " <part>." P,L1,width, which continues :meth:`prefix`; ends count from
        its first position and differ with the length of the name.
        """
        ids = _template([f"{self._opening}'s {_words(name)}." for name in names], tower)
        first = self.token_prefix.shape[1] + self.tokens + self._owner_length
        ends = ids.argmax(dim=1) - first
        ids = ids[:, first : first + int(ends.max()) + 1]
        return Embedded(tower.token_embedding(ids), ends)

    def _joined(self, labels: Tensor, rest: Tensor) -> Tensor:
        count = len(labels)
        pieces = (
            self.token_prefix.expand(count, -1, -1),
            self.cls_ctx[labels],
            rest.expand(count, -1, -1),
        )
        return torch.cat(pieces, dim=1)


def fixed_parts(tower: ClipText, names: Sequence[str], *, subject: str = "person") -> Embedded:
    """Part names -> "A photo of a person's <part>." P,L,width: parts of nobody in particular
    (pi-VL's ablation B+H).
    """
    ids = _template([f"A photo of a {subject}'s {_words(name)}." for name in names], tower)
    ends = ids.argmax(dim=1)
    return Embedded(tower.token_embedding(ids[:, : int(ends.max()) + 1]), ends)


def _words(name: str) -> str:
    return name.replace("-", " ").replace("_", " ")


def _template(texts: str | list[str], tower: ClipText) -> Tensor:
    texts = [texts] if isinstance(texts, str) else texts
    ids = tokenise(texts, context=tower.context_length)
    return ids.to(tower.token_embedding.weight.device)


class PartTexts(NamedTuple):
    """Part rows U,P,D of the distinct identities ``ids``, int64 U, ascending."""

    ids: Tensor
    rows: Tensor


class IdentityTexts(nn.Module):
    """Labels -> text rows: ``texts(labels int64 N) -> N,D``, not normalised.

    Each identity is encoded once however often it occurs in a batch (the authors encode every
    occurrence), and the words before the learnt vectors once for all. Sub-modules carry the names
    of CLIP-ReID's checkpoints, ``prompt_learner`` and ``text_encoder``; those files lack
    ``text_encoder.token_embedding.weight``. Loading a state dict renews the prompts' fixed words
    from the tower's token embedding. Freeze the tower (``text_encoder.requires_grad_(False)``) to
    tune prompts alone: the authors forget to, and compute weight gradients in vain.
    """

    def __init__(
        self, text_encoder: ClipText, prompt_learner: IdentityPrompts, *, chunk: int = 16
    ) -> None:
        super().__init__()
        self.text_encoder, self.prompt_learner = text_encoder, prompt_learner
        self.chunk = chunk
        self.register_load_state_dict_post_hook(_refresh)

    @property
    def _common(self) -> int:
        return self.prompt_learner.token_prefix.shape[1]

    def forward(self, labels: Tensor) -> Tensor:
        ids, inverse = labels.unique(return_inverse=True)
        return self._rows(ids)[inverse]

    def _rows(self, ids: Tensor) -> Tensor:
        return self.text_encoder.encode(*self.prompt_learner(ids), common=self._common)

    def parts(self, labels: Tensor, names: Sequence[str]) -> PartTexts:
        """The part prompts ``names`` of every identity in ``labels`` int64 N, once each."""
        return self._part_rows(labels.unique(), names)

    def _part_rows(self, ids: Tensor, names: Sequence[str]) -> PartTexts:
        prompts, tower = self.prompt_learner, self.text_encoder
        suffixes, ends = prompts.part_suffixes(tower, names)
        rows = tower.encode_shared(
            prompts.prefix(ids), suffixes, ends, common=self._common, chunk=self.chunk
        )
        return PartTexts(ids, rows)

    @torch.no_grad()
    def table(self, *, batch: int = 128) -> Tensor:
        """Rows of all identities, C,D, without gradient."""
        return torch.cat([self._rows(ids) for ids in self._all().split(batch)])

    @torch.no_grad()
    def part_table(self, names: Sequence[str]) -> Tensor:
        """Part rows of all identities, C,P,D, without gradient."""
        return self._part_rows(self._all(), names).rows

    def _all(self) -> Tensor:
        context = self.prompt_learner.cls_ctx
        return torch.arange(len(context), device=context.device)


def _refresh(texts: nn.Module, incompatible_keys: object) -> None:
    del incompatible_keys
    assert isinstance(texts, IdentityTexts)
    texts.prompt_learner.refresh(texts.text_encoder)
