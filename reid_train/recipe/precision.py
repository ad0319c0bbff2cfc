"""In which precision a recipe trains, and in which its authors did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reid_train.recipe import random_start
from reid_train.recipe.loading import list_recipes, load_recipe

if TYPE_CHECKING:
    from reid_train.engine.runtime import Runtime

AUTO = "auto"


def of_authors(recipe: Mapping[str, Any]) -> str:
    """What the authors of a recipe in its plain form trained in; empty where nobody knows, and for
    one that is not in the package.
    """
    name = random_start.published(str(recipe.get("name")))
    return load_recipe(name).authors_precision if name in list_recipes() else ""


@dataclass(frozen=True)
class Precision:
    """asked: what the recipe says; used: what came of it on this machine; authors: see
    ``of_authors``.
    """

    asked: str
    used: str
    on_cpu: bool
    authors: str

    @classmethod
    def of(cls, recipe: Mapping[str, Any], runtime: Runtime) -> Precision:
        """Of a recipe in its plain form."""
        from reid_train.engine.runtime import on_cpu

        authors = of_authors(recipe)
        return cls(recipe["precision"], runtime.precision, on_cpu(runtime.device), authors)

    def lines(self) -> list[str]:
        """What is said before training: of a choice, and where the authors made another."""
        differs = bool(self.authors) and not self.authors.startswith(self.used)
        if self.asked != AUTO and not differs:
            return []
        told = f"precision {self.used}"
        if self.asked == AUTO:
            told += f" ({AUTO}: {self._why})"
        return [f"{told}; its authors trained in {self.authors}" if self.authors else told]

    @property
    def _why(self) -> str:
        if self.on_cpu:
            return "a CPU computes in fp32"
        if self.used == "bf16":
            return "the GPU has it; how far losses drift: docs/benchmarks.md"
        return "the GPU has no bf16"

    def facts(self) -> dict[str, str]:
        """What a run keeps of it."""
        found = {"precision": self.used, "precision_asked": self.asked}
        return {**found, "precision_of_authors": self.authors} if self.authors else found
