"""Prompt tuning as a task: texts of identities and of their parts against frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reid_train.engine.runtime import gather
from reid_train.engine.task import Losses, ReidTask, Report
from reid_train.recipe.task import Term

if TYPE_CHECKING:
    from reid_train.models.prompts import IdentityTexts

# What a loss on frozen features may read.
OUTPUTS = ("projected", "text", "parts", "part_texts")


class PromptTask(ReidTask):
    """Identity prompts that train, a text tower that does not.

    A batch is one of ``reid_train.data.features.FeatureBatches``. Outputs: ``projected`` N,D and
    ``text`` N,D, the row of each image's identity; ``parts``: means N,P,D and counts N,P;
    ``part_texts``: rows U,P,D of the batch's identities and the place of each image among them.
    Rows are those of the global batch.
    """

    def __init__(
        self, text: IdentityTexts, terms: Mapping[str, list[Term]], part_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.text = text
        self.text.text_encoder.requires_grad_(False)
        self.terms = dict(terms)
        self.part_names = tuple(part_names)
        self.active: list[Term] = []

    def begin_stage(self, name: str) -> None:
        self.active = self.terms[name]

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        batch = {name: gather(rows) for name, rows in batch.items()}
        losses: Losses = {}
        for term in self.active:
            given = [value for name in term.on for value in self._outputs(name, batch)]
            if getattr(term.loss, "takes", ("labels",)):
                given.append(batch["labels"])
            losses[term.name] = term.weight * term.loss(*given)
        return losses, {}

    def _outputs(self, name: str, batch: Mapping[str, Tensor]) -> tuple[Any, ...]:
        labels = batch["labels"]
        if name == "projected":
            return (batch["projected"],)
        if name == "text":
            return (self.text(labels),)
        if name == "parts":
            return batch["parts"], batch["counts"]
        texts = self.text.parts(labels, self.part_names)
        return texts.rows, labels.unique(return_inverse=True)[1]
