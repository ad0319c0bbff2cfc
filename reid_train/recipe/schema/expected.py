"""Published results: the figures, where they stand, and under which conditions they were reached.

All of it is told and nothing of it is in a key.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from reid_train.recipe.schema.part import Count, Part, Share


class Published(Part):
    """What figures stand on. source: the table of a paper, or a README with its commit; a file of
    this project for what was measured here. via: where they were read, when not in the source
    itself. unchecked: remembered, and neither the source nor a quotation was read.

    train: the dataset (``id:variant``) whose training split the source used, where it is another
    than the one tested on. weights: what it started from. settings: ``KEY=VALUE`` of ``--set``
    that this row of the source needs. seeds, spread: of how many seeds the figures are the mean,
    and their sample standard deviation by name. note: whatever else is particular to them.
    """

    source: str
    via: str = ""
    unchecked: bool = False
    train: str = ""
    weights: str = ""
    settings: tuple[Annotated[str, Field(pattern=r"^[^=]+=.")], ...] = ()
    seeds: Count | None = None
    spread: dict[str, Share] = {}
    note: str = ""

    def figures_by_name(self) -> dict[str, float]:
        """The figures, in 0..1, by the name of their column."""
        raise NotImplementedError

    @property
    def own(self) -> bool:
        """Whether it was measured by this project, not published by others."""
        return self.source.startswith("docs/")

    @property
    def digits(self) -> int:
        """Decimals that the figures are given with, in percent."""
        tenths = [1000 * value for value in self.figures_by_name().values()]
        return 1 if all(abs(value - round(value)) < 1e-6 for value in tenths) else 2

    @property
    def told_source(self) -> str:
        """The source in words, with how the figures came from there."""
        read = [self.source]
        if self.via:
            read.append(f"read in {self.via}")
        if self.unchecked:
            read.append("remembered, not checked against it")
        return ", ".join(read)

    def told(self) -> dict[str, Any]:
        """As ``reidpipe recipes NAME`` shows it: what it is of and the figures, then their source,
        without what is not said.
        """
        said = self.model_dump(mode="json", exclude_defaults=True)
        own = [name for name in type(self).model_fields if name not in Published.model_fields]
        return {name: said[name] for name in (*own, *Published.model_fields) if name in said}

    @model_validator(mode="after")
    def _has_figures(self) -> Published:
        names = self.figures_by_name()
        if not names:
            raise ValueError("at least one figure")
        if unknown := set(self.spread) - set(names):
            raise ValueError(f"a spread of figures that are there, not of {', '.join(unknown)}")
        return self


class Expected(Published):
    """Retrieval on a ``dataset`` (``id`` or ``id:variant``) under one of its protocols. parser:
    whose label maps were read. rerank: k1, k2 and lambda, where the figures are re-ranked ones.
    """

    dataset: str
    protocol: str
    mAP: Share | None = None
    mINP: Share | None = None
    rank1: Share | None = None
    rank5: Share | None = None
    rank10: Share | None = None
    parser: str = ""
    rerank: tuple[Count, Count, Share] | None = None

    def figures_by_name(self) -> dict[str, float]:
        """By the names of ``eval``: mAP, Rank-1, Rank-5, Rank-10, mINP."""
        named = {
            "mAP": self.mAP,
            "Rank-1": self.rank1,
            "Rank-5": self.rank5,
            "Rank-10": self.rank10,
            "mINP": self.mINP,
        }
        return {name: value for name, value in named.items() if value is not None}
