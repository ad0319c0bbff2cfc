"""What a step is about, in the words of whoever asked for it: recipe, parser, dataset, seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step


# Generated people have a seed too, and so have frozen weights: none of the training's.
_OTHER_SEEDS = ("index", "features", "text")
# Steps that make label maps.
MAPS = ("maps", "exact", "centred", "damaged")


@dataclass(frozen=True)
class About:
    """recipe, parser, dataset: names. seed: of the training. What is not known is None."""

    recipe: str | None = None
    parser: str | None = None
    dataset: str | None = None
    seed: int | None = None

    def __str__(self) -> str:
        """``pi-vl-tiny mannequins seed 1``, without what is not known."""
        seed = None if self.seed is None else f"seed {self.seed}"
        return " ".join(part for part in (self.recipe, self.parser, self.dataset, seed) if part)

    @property
    def short(self) -> str:
        """``pi-vl-tiny s1``: recipe, else parser or dataset, and seed."""
        seed = None if self.seed is None else f"s{self.seed}"
        name = self.recipe or self.parser or self.dataset
        return " ".join(part for part in (name, seed) if part)


def about(step: Step) -> About:
    """What a step, or else the nearest of the steps it stands on, says of itself."""
    steps = list(_nearest_first(step))
    recipe = next((name for name in map(_recipe, steps) if name), None)
    parser = _text(step.params.get("model")) if step.name in MAPS else None
    dataset = next((name for s in steps if (name := _text(s.params.get("dataset")))), None)
    seeds = (s.params.get("seed") for s in steps if s.name not in _OTHER_SEEDS)
    seed = next((n for n in seeds if isinstance(n, int) and not isinstance(n, bool)), None)
    return About(recipe, parser, dataset, seed)


def _recipe(step: Step) -> str | None:
    recipe = step.params.get("recipe")
    return _text(recipe.get("name") if isinstance(recipe, dict) else recipe)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _nearest_first(step: Step) -> Iterator[Step]:
    level, seen = [step], {step.key}
    while level:
        yield from level
        below = [source for one in level for _, source in sorted(one.inputs.items())]
        level = []
        for source in below:
            if source.key not in seen:
                seen.add(source.key)
                level.append(source)
