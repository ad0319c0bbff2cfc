"""Images against class names in CLIP's space: zero-shot, CoOp, CoCoOp and MaPLe.

Each is a frozen CLIP and at most one learner, under the names of the authors' whole-model files
(``image_encoder``, ``text_encoder``, ``logit_scale``, ``prompt_learner``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.arithmetic import normalised, restore
from reid_train.models.clip.text import chunked
from reid_train.models.clip.towers import Towers
from reid_train.models.learners import (
    PHOTO,
    CoCoOpLearner,
    CoOpLearner,
    arrangement,
    fill_template,
    replace_words,
    word_prompts,
)
from reid_train.models.maple import MapleLearner, encode_images, encode_texts
from reid_train.models.prompts import tokenise


class ClipClassifier(nn.Module):
    """``forward(images N,3,H,W float RGB 0..1, of input_size) -> logits N,C``:
    exp(logit_scale) * cosine(image, class). CLIP's mean and std are inside.

    CLIP is frozen; what trains is in ``prompt_learner``, where there is one. Texts that no image
    changes are computed once and kept while nothing changes them: in eval mode, where no gradient
    is asked for. ``text_batch`` prompts are computed at a time; when there are more, the backward
    pass computes them again instead of keeping their activations.
    """

    mean: Tensor
    std: Tensor
    ids: Tensor
    prompt_learner: Any

    def __init__(self, towers: Towers, *, text_batch: int = 256) -> None:
        super().__init__()
        self.image_encoder = towers.image.requires_grad_(False)
        self.text_encoder = towers.text.requires_grad_(False)
        self.logit_scale = nn.Parameter(towers.logit_scale, requires_grad=False)
        height, width = towers.image.image_size
        self.input_size = (int(height), int(width))
        self._constants = {"mean": towers.mean, "std": towers.std}
        for name, values in self._constants.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.text_batch = text_batch
        self.prompt_learner = None
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def name_classes(self, class_names: Sequence[str]) -> None:
        """Compare with these classes from now on; what was learnt stays.

        Raises ReidpipeError for names that do not fit (an empty one; another number of them than
        class-specific vectors were learnt for).
        """
        self._word(class_names)
        self.class_names = list(class_names)
        self._kept = None

    def _word(self, class_names: Sequence[str]) -> None:
        """Tokenise prompts about these classes."""
        raise NotImplementedError

    def _keep_ids(self, **ids: Tensor) -> None:
        device = self.logit_scale.device
        for name, value in ids.items():
            self.register_buffer(name, value.to(device), persistent=False)

    def prepared(self, images: Tensor) -> Tensor:
        """Normalised images. Raises ValueError when they are not floats N,3,H,W of
        ``input_size``.
        """
        return normalised(images, self.mean, self.std, self.input_size)

    def image_features(self, images: Tensor) -> Tensor:
        """Images N,3,H,W in 0..1 -> N,D, not normalised: the retrieval feature."""
        return self.image_encoder(self.prepared(images))

    def text_features(self) -> Tensor:
        """One row per class, C,D, not normalised (of several templates: the mean of normalised
        rows); computed anew at every call.
        """
        raise NotImplementedError

    def _texts(self) -> Tensor:
        """:meth:`text_features`, kept where that is safe."""
        texts = [*self.text_encoder.parameters(), *self._learnt()]
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in texts)
        if self.training or learning or any(p.is_inference() for p in texts):
            return self.text_features()
        stamp = tuple(p._version for p in texts)
        if self._kept is None or self._kept[0] != stamp:
            # under inference_mode too the rows must serve later calls outside of it
            with torch.inference_mode(False), torch.no_grad():
                self._kept = stamp, self.text_features()
        return self._kept[1]

    def _learnt(self) -> list[nn.Parameter]:
        return [] if self.prompt_learner is None else list(self.prompt_learner.parameters())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # another device or precision: what was kept stays behind
        self._kept = None
        super()._apply(fn, recurse)
        for name, values in self._constants.items():
            restore(getattr(self, name), values)
        return self

    def compare(self, image_features: Tensor) -> Tensor:
        """Image features N,D of any length, as of :meth:`image_features` -> logits N,C."""
        features = F.normalize(image_features, dim=-1)
        return self.logit_scale.exp() * features @ F.normalize(self._texts(), dim=-1).T

    def forward(self, images: Tensor) -> Tensor:
        return self.compare(self.image_features(images))

    def _in_batches(self, rows: Callable[[Tensor], Tensor], count: int) -> Tensor:
        """``rows(indices) -> one entry per index`` for all of ``count``, a batch at a time."""
        indices = torch.arange(count, device=self.logit_scale.device)
        return chunked(rows, indices, self.text_batch)


class ZeroShot(ClipClassifier):
    """Class names in fixed sentences (Radford et al. 2021). With several templates a class is the
    mean of its normalised rows.
    """

    def __init__(
        self,
        towers: Towers,
        class_names: Sequence[str],
        *,
        templates: Sequence[str] = (PHOTO,),
        text_batch: int = 256,
    ) -> None:
        super().__init__(towers, text_batch=text_batch)
        self.templates = tuple(templates)
        self.name_classes(class_names)

    def _word(self, class_names: Sequence[str]) -> None:
        sentences = [s for t in self.templates for s in fill_template(t, class_names)]
        self._keep_ids(ids=tokenise(sentences, context=self.text_encoder.context_length))

    def text_features(self) -> Tensor:
        def rows(index: Tensor) -> Tensor:
            return self.text_encoder.encode_tokens(self.ids[index])

        features = self._in_batches(rows, len(self.ids))
        if len(self.templates) == 1:
            return features
        features = F.normalize(features, dim=-1).unflatten(0, (len(self.templates), -1))
        return features.mean(0)  # T,C,D -> C,D


class _Learning(ClipClassifier):
    """What the three learners share: the tokens around their vectors."""

    ends: Tensor
    order: Tensor

    def __init__(
        self,
        towers: Towers,
        learner: CoOpLearner | CoCoOpLearner | MapleLearner,
        class_names: Sequence[str],
        *,
        template: str | None = None,
        position: str = "end",
        text_batch: int = 256,
    ) -> None:
        super().__init__(towers, text_batch=text_batch)
        self.template, self.position = template, position
        self._n_ctx = learner.ctx.shape[-2]
        self._classes = len(learner.ctx) if learner.ctx.ndim == 3 else None
        self.prompt_learner = learner
        self.name_classes(class_names)

    def _word(self, class_names: Sequence[str]) -> None:
        if self._classes not in (None, len(class_names)):
            raise ReidpipeError(
                f"found {len(class_names)} class names and vectors learnt for {self._classes} "
                "classes; expected as many; class-specific vectors serve no other classes"
            )
        wording = word_prompts(
            class_names,
            n_ctx=self._n_ctx,
            template=self.template,
            context=self.text_encoder.context_length,
        )
        order = arrangement(wording, self._n_ctx, self.position)
        self._keep_ids(ids=wording.ids, ends=wording.ends, order=order)
        same = (wording.ids == wording.ids[:1]).all(dim=0).long().cumprod(0).sum()
        self._alike = min(int(same), int(wording.ends.min()))

    def _words(self) -> Tensor:
        """The prompts' tokens embedded, C,L,width, before the vectors take their places."""
        return self.text_encoder.token_embedding(self.ids)


class CoOp(_Learning):
    """Vectors learnt in place of the words around class names, shared or a set per class."""

    prompt_learner: CoOpLearner

    @property
    def common(self) -> int:
        """Leading places that all prompts have in common."""
        if self._classes is not None or self.position == "front":
            return 1
        return self._alike if self.position == "end" else 1 + self._n_ctx // 2

    def prompts(self) -> Tensor:
        """Embedded prompts C,L,width, positions not added, cut after the longest."""
        joined = self.prompt_learner(self._words())
        if self.position == "end":
            return joined
        return joined.gather(1, self.order[..., None].expand_as(joined))

    def text_features(self) -> Tensor:
        prompts = self.prompts()

        def rows(index: Tensor) -> Tensor:
            return self.text_encoder.encode(prompts[index], self.ends[index], common=self.common)

        return self._in_batches(rows, len(prompts))


class CoCoOp(_Learning):
    """CoOp whose vectors every image shifts: N*C texts for N images, so nothing is kept.

    The words before the names are computed once per image, and the names of ``text_batch`` classes
    beside each other after them; the authors run N*C sequences of 77 tokens.
    """

    prompt_learner: CoCoOpLearner

    def text_features(self, image_features: Tensor) -> Tensor:  # type: ignore[override]
        """Image features N,D of any length -> one row per image and class, N,C,D."""
        context = self.prompt_learner(image_features)
        words, first, tower = self._words(), self._alike, self.text_encoder
        opening = words[:1, :first].expand(len(context), -1, -1)
        prefixes = replace_words(opening, context)  # N,L0,width
        per_pass = max(1, self.text_batch // len(words))
        pieces = prefixes.split(1) if len(words) > self.text_batch else (prefixes,)

        def of(piece: Tensor) -> Tensor:
            def rows(index: Tensor) -> Tensor:
                names, ends = words[index, first:], self.ends[index] - first
                done = tower.encode_shared(piece, names, ends, common=1, chunk=per_pass)
                return done.transpose(0, 1)

            return self._in_batches(rows, len(words))  # C,N,D

        return torch.cat([of(piece) for piece in pieces], dim=1).transpose(0, 1)

    def compare(self, image_features: Tensor) -> Tensor:
        features = F.normalize(image_features, dim=-1)
        texts = F.normalize(self.text_features(features), dim=-1)
        return self.logit_scale.exp() * torch.einsum("nd,ncd->nc", features, texts)


class Maple(_Learning):
    """Vectors learnt at the entry of both towers and of their first blocks; the only one of the
    learners that changes image features.
    """

    prompt_learner: MapleLearner

    def image_features(self, images: Tensor) -> Tensor:
        x = self.prepared(images)
        return encode_images(self.image_encoder, x, self.prompt_learner().image)

    def prompts(self) -> Tensor:
        """Embedded prompts C,L,width at the entry of the text tower, positions not added."""
        return replace_words(self._words(), self.prompt_learner.ctx)

    def text_features(self) -> Tensor:
        prompts, deep = self.prompts(), self.prompt_learner().text

        def rows(index: Tensor) -> Tensor:
            return encode_texts(self.text_encoder, prompts[index], self.ends[index], deep)

        return self._in_batches(rows, len(prompts))
