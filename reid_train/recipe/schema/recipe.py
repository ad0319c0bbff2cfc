"""A whole recipe, and what must fit between its parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from reid_train.models import COSINE, Distance
from reid_train.recipe.schema.expected import Expected
from reid_train.recipe.schema.model import Input, Model
from reid_train.recipe.schema.part import Count, Part, RunName
from reid_train.recipe.schema.stage import HOOKS, MEMORIES, Features, Stage

TOLD = {"summary", "citation", "suits", "expected", "deviations", "authors_precision"}


class Test(Part):
    """How the method is evaluated by default: ``flip`` adds the mirrored image's features;
    ``distance`` compares features by their cosine or, ``euclidean``, as they are.
    """

    flip: bool = False
    distance: Distance = COSINE


class Suits(Part):
    """Whom a recipe is for, as ``recipes --for`` tells it.

    kinds: ``own`` images of one's own, ``benchmark`` a published dataset to compare on,
    ``label-free`` images of which nobody knows whom they show. people: identities to train on, at
    least and at most (None: no end). machine: what trains it in the time said. start: weights that
    it is meant to start from with ``--pretrained``, where it does not by itself. why_not: of a
    recipe that is of no kind.
    """

    kinds: tuple[Literal["own", "benchmark", "label-free"], ...] = ()
    people: tuple[Count, Count | None] | None = None
    machine: str = ""
    start: str = ""
    why_not: str = ""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Suits:
        if bool(self.kinds) == bool(self.why_not):
            raise ValueError("kinds, or why_not for a recipe of none")
        if self.kinds and not (self.people and self.machine):
            raise ValueError("the people and the machine that it suits")
        return self


class Recipe(Part):
    """A method. precision: ``auto`` is bf16 on a GPU that has it, else fp32; ``fp64``, to compare
    trainings step by step. authors_precision: what its authors' code trains in, empty where that is
    not known. deviations: what it does otherwise than its source, and why, a sentence each.
    """

    name: RunName
    summary: str = ""
    citation: tuple[str, ...] = ()
    suits: Suits | None = None
    model: Model
    input: Input
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    authors_precision: str = ""
    channels_last: bool = False
    test: Test = Test()
    expected: tuple[Expected, ...] = ()
    deviations: tuple[str, ...] = ()

    UNKEYED = frozenset({"name", *TOLD})

    def names(self) -> list[tuple[str, str]]:
        """What its model and its stages on images name that may be a plugin's."""
        return [
            ("trunk", self.model.trunk),
            *(("head", head.kind) for head in self.model.heads.values()),
            *(name for stage in self.image_stages for name in stage.names()),
        ]

    @property
    def prompt_stages(self) -> tuple[Stage, ...]:
        """The stages that tune prompts, which come first."""
        return tuple(stage for stage in self.stages if isinstance(stage.data, Features))

    @property
    def reads_maps(self) -> bool:
        """Whether it needs label maps."""
        rows = self.model.text is not None and self.model.text.parts != "none"
        parts = any(getattr(stage.data, "parts", False) for stage in self.stages)
        return rows or parts or any("cells" in stage.reads for stage in self.stages)

    @property
    def label_free(self) -> bool:
        """Whether it trains on images without identities: every stage finds labels of its own."""
        return all(stage.clusters for stage in self.stages)

    @property
    def image_stages(self) -> tuple[Stage, ...]:
        """The stages that train on images."""
        return self.stages[len(self.prompt_stages) :]

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages {names} do not all have names of their own")
        if any(isinstance(stage.data, Features) for stage in self.image_stages):
            raise ValueError("stages on features, which tune prompts, come before those on images")
        if not self.image_stages:
            raise ValueError("at least one stage trains on images")
        if (self.prompt_stages or self.model.teacher) and self.model.text is None:
            raise ValueError("a teacher, and stages on features, tune prompts and need model.text")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        for stage in self.stages:
            if isinstance(stage.data, Features):
                asked, there = stage.reads & {"parts", "part_texts"}, stage.data.parts
                setting = f"stages.{stage.name}.data.parts=true"
            else:
                asked = stage.reads & {"cells", "part_texts"}
                there = self.model.text is not None and self.model.text.parts != "none"
                setting = "model.text.parts=identity (or fixed)"
            if asked and not there:
                on = " and ".join(sorted(asked))
                raise ValueError(f"losses of stage '{stage.name}' on {on} need {setting}")
        return self

    @model_validator(mode="after")
    def _hooks_fit(self) -> Recipe:
        for stage in self.stages:
            memories = [loss for loss in stage.losses if loss.loss in MEMORIES]
            own = [hook.hook for hook in stage.hooks if hook.hook in HOOKS]
            if len(own) > 1:
                raise ValueError(f"stage '{stage.name}' has {len(own)} of {' and '.join(HOOKS)}")
            if (memories and not stage.hooks) or (own and not memories):
                raise ValueError(
                    f"stage '{stage.name}' needs losses {' or '.join(MEMORIES)} together with a "
                    "hook, memory or cluster"
                )
            if any(loss.on != "embedding" for loss in memories):
                raise ValueError(f"losses {' and '.join(MEMORIES)} are on embedding")
            if stage.clusters and getattr(stage.data, "iterations", None) is None:
                raise ValueError("hook cluster needs identity-batches with iterations")
            if stage.clusters and (self.model.heads or self.model.text):
                raise ValueError("hook cluster knows no identities: no heads and no text")
            if own and self.input.train_filter != self.input.test_filter:
                raise ValueError("hooks read training images as in tests: use one filter for both")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON values, without what is said about it (``TOLD``: summary, citation,
        whom it suits, expected results, deviations); ``from_plain`` is the inverse for the rest.
        """
        return self.model_dump(mode="json", exclude=TOLD)
