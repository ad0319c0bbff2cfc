"""A recipe becomes a task and its stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ReidpipeError, nearest
from reid_train import recipe_parts as recipes
from reid_train.data.augmentation import Augmentation, colour, erase
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.data.sampler import IdentitySampler, Sampler, ShuffledSampler
from reid_train.losses import LOSSES
from reid_train.models.heads import HEADS
from reid_train.models.reid_model import ReidModel, build_model
from reid_train.runtime import derive_seed, gather
from reid_train.task import SCHEDULES, Losses, Optimiser, ReidTask, Report, Schedule, Stage


@dataclass(frozen=True)
class Term:
    """A loss, what it reads and what it counts."""

    name: str
    on: str
    weight: float
    loss: nn.Module


class RecipeTask(ReidTask):
    """Model, heads and the losses of every stage.

    Features are gathered over the processes before heads and losses: both see the global batch
    (``batch`` as described in ``reid_train.data.dataset.ReidBatches``).
    """

    def __init__(
        self,
        model: ReidModel,
        heads: Mapping[str, tuple[str, nn.Module]],
        terms: Mapping[str, list[Term]],
    ) -> None:
        """heads: name -> (feature it reads, module). terms: stage name -> losses."""
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict({name: head for name, (_, head) in heads.items()})
        self.reads = {name: on for name, (on, _) in heads.items()}
        self.terms = dict(terms)
        self.active: list[Term] = []

    def begin_stage(self, name: str) -> None:
        self.active = self.terms[name]

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        features = self.model.features(
            self.pixels(batch), camids=batch.get("camids"), views=batch.get("views")
        )
        labels = gather(batch["labels"])
        outputs: dict[str, Tensor] = {}
        losses: Losses = {}
        report: Report = {}
        for term in self.active:
            for name in (self.reads.get(term.on), term.on):
                if name is not None and name not in outputs:
                    outputs[name] = self._output(name, features, outputs)
            output = outputs[term.on]
            losses[term.name] = term.weight * term.loss(output, labels)
            if term.on in self.reads:
                hits = output.detach().argmax(1) == labels
                report[f"accuracy/{term.on}"] = hits.float().mean()
        return losses, report

    def _output(self, name: str, features: dict[str, Tensor], outputs: dict[str, Tensor]) -> Tensor:
        if name in self.reads:
            return self.heads[name](outputs[self.reads[name]])
        return gather(features[name])

    def pixels(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's images N,3,H,W in 0..1, with the changes that are made to floats."""
        images = batch["images"].float().div_(255)
        if "factors" in batch:
            images = colour(images, batch["factors"])
        if "erased" in batch:
            mean, std = self.model.mean, self.model.std
            images = erase(images, batch["erased"], batch["filling"], mean, std)
        return images


def model_spec(recipe: recipes.Recipe) -> dict[str, Any]:
    """What ``build_model`` reads and ``model.json`` keeps under ``model``."""
    return {
        "trunk": recipe.model.trunk,
        "options": dict(recipe.model.options),
        "mean": list(recipe.input.mean),
        "std": list(recipe.input.std),
        "input_size": list(recipe.input.size),
    }


def build_task(
    recipe: recipes.Recipe,
    *,
    classes: int,
    pretrained: str = "none",
    weights: Path | None = None,
) -> RecipeTask:
    """Model and heads for ``classes`` identities, freshly drawn from torch's generator: seed it
    around this call. ``pretrained``: ``none``, ``openai`` or a CLIP file, for trunks of CLIP;
    ``weights``: folder of downloaded files.

    Raises ReidpipeError for unknown names and options and for a feature that does not exist.
    """
    model = _build_trunk(model_spec(recipe), pretrained=pretrained, weights=weights)
    dims: dict[str, int] = dict(model.trunk.feature_dims)  # type: ignore[arg-type]
    heads = {
        name: (head.on, _build_head(name, head, dims, classes))
        for name, head in recipe.model.heads.items()
    }
    known = [*dims, *heads]
    terms = {stage.name: [_term(loss, known) for loss in stage.losses] for stage in recipe.stages}
    return RecipeTask(model, heads, terms)


def _build_trunk(spec: dict[str, Any], **loading: Any) -> ReidModel:
    try:
        return build_model(spec, **loading)
    except TypeError as error:
        # Trunk factories import their module late, so their signatures cannot be asked first.
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rsplit("'", 2)[-2]
        raise ReidpipeError(
            f"found option 'model.options.{option}', which trunk '{spec['trunk']}' does not have; "
            "expected one of its keyword arguments; correct or remove it"
        ) from error


def _build_head(name: str, head: recipes.Head, dims: dict[str, int], classes: int) -> nn.Module:
    if name in dims:
        raise ReidpipeError(
            f"found head 'model.heads.{name}' named like a feature; expected a name of its own"
        )
    _require(head.on, dims, f"model.heads.{name}.on")
    options = {"dim": dims[head.on], "classes": classes, **head.options}
    return _make(HEADS, head.kind, options, f"model.heads.{name}")


def _term(loss: recipes.Loss, known: list[str]) -> Term:
    _require(loss.on, known, f"losses '{loss.loss}' on")
    module = _make(LOSSES, loss.loss, loss.options, f"losses '{loss.loss}'")
    return Term(f"{loss.loss}/{loss.on}", loss.on, loss.weight, module)


def _require(name: str, known: Mapping[str, Any] | list[str], path: str) -> None:
    if name not in known:
        raise ReidpipeError(
            f"found '{name}' for {path}{nearest(name, known)}; expected one of {', '.join(known)}"
        )


def _make(
    registry: Mapping[str, Callable[..., nn.Module]], name: str, options: dict[str, Any], path: str
) -> nn.Module:
    _require(name, registry, path)
    accepted = inspect.signature(registry[name]).parameters
    for option in options:
        if option not in accepted:
            raise ReidpipeError(
                f"found option '{option}' for {path}{nearest(option, accepted)}; expected one of "
                f"{', '.join(accepted)}"
            )
    try:
        return registry[name](**options)
    except ValueError as error:
        raise ReidpipeError(f"found wrong options for {path}: {error}") from error


def training_set(recipe: recipes.Recipe, images: Any, rows: list, maps: Any = None) -> TrainingSet:
    """The images all stages train on. ``flipped_copies`` of the first stage decides for all."""
    copies = {getattr(stage.data, "flipped_copies", False) for stage in recipe.stages}
    if len(copies) > 1:
        raise ReidpipeError(
            "found flipped_copies in some stages only; expected the same in all stages"
        )
    if images.size != recipe.input.size:
        raise ReidpipeError(
            f"found packed images of size {images.size}; expected {recipe.input.size}; "
            "type reidpipe prepare"
        )
    return TrainingSet(images, rows, maps=maps, flipped_copies=copies.pop())


def build_stages(recipe: recipes.Recipe, data: TrainingSet, *, seed: int) -> list[Stage]:
    """The recipe's stages over ``data``."""
    return [_stage(stage, data, derive_seed(seed, "data", stage.name)) for stage in recipe.stages]


def _stage(stage: recipes.Stage, data: TrainingSet, seed: int) -> Stage:
    augmentation = Augmentation(**stage.data.augment.model_dump())
    schedule = stage.schedule.model_dump()
    make: Callable[..., Schedule] = SCHEDULES[schedule.pop("kind")]
    return Stage(
        stage.name,
        stage.epochs,
        ReidBatches(data, _sampler(stage.data, data, seed), augmentation, seed=seed),
        Optimiser(**{f.name: getattr(stage.optimiser, f.name) for f in fields(Optimiser)}),
        make(**schedule),
        stage.trains,
        stage.accumulate,
        stage.clip,
        stage.ema,
    )


def _sampler(
    data: recipes.IdentityBatches | recipes.Shuffled, images: TrainingSet, seed: int
) -> Sampler:
    if isinstance(data, recipes.Shuffled):
        return ShuffledSampler(len(images), batch=data.batch, seed=seed)
    return IdentitySampler(images.labels, ids=data.ids, images_per_id=data.images_per_id, seed=seed)


def count_parameters(recipe: recipes.Recipe) -> int:
    """Number of parameters of the model that is deployed: trunk without heads."""
    return parameters(_build_trunk(model_spec(recipe)))


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def fresh(seed: int, make: Callable[[], nn.Module]) -> Any:
    """``make()`` with torch's generator seeded for initial weights; restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return make()
