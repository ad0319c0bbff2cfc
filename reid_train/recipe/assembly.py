"""A recipe becomes a task and its stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.data.augmentation import Augmentation
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.data.sampler import IdentitySampler, RestartedSampler, Sampler, ShuffledSampler
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed
from reid_train.engine.schedules import SCHEDULES, Schedule
from reid_train.engine.task import BatchSource, Hook, Stage
from reid_train.hooks import HOOKS
from reid_train.losses import LOSSES
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.deployable import ReidModel, build_model
from reid_train.models.heads import HEADS, Projection
from reid_train.models.pyramid import FUSIONS, fused_grid
from reid_train.models.text_table import TextRows, TextTable
from reid_train.recipe import schema
from reid_train.recipe.prompt_task import OUTPUTS
from reid_train.recipe.start import is_model_of_ours, start_from
from reid_train.recipe.task import RecipeTask, Term

if TYPE_CHECKING:
    from pipeline.datasets.index import ImageRow
    from reid_train.models.prompts import IdentityTexts

# Sizes of CLIP's text towers, and of the one that ships with the package.
TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "ViT-B-16": {"architecture": "ViT-B-16"},
    "RN50": {"architecture": "RN50", "output_dim": 1024},
    "clip-tiny": {"architecture": "RN50", **clip_tiny.TEXT},
}


def model_spec(recipe: schema.Recipe) -> dict[str, Any]:
    """What ``build_model`` reads and ``model.json`` keeps under ``model``."""
    return {
        "trunk": recipe.model.trunk,
        "options": dict(recipe.model.options),
        "mean": list(recipe.input.mean),
        "std": list(recipe.input.std),
        "input_size": list(recipe.input.size),
    }


def count_sides(recipe: schema.Recipe, rows: Sequence[ImageRow]) -> schema.Recipe:
    """The recipe with ``dataset`` for the trunk's number of ``cameras`` or ``views`` replaced by
    the number in all ``rows`` of an index, test images included: their tables must have a row each.

    Raises ReidpipeError when an image has none.
    """
    counts: dict[str, int] = {}
    for option, name in (("cameras", "camid"), ("views", "view")):
        if recipe.model.options.get(option) == "dataset":
            numbers = [getattr(row, name) for row in rows]
            if None in numbers:
                raise ReidpipeError(
                    f"found an image without {name}; expected one for each, as recipe "
                    f"'{recipe.name}' embeds {option}; type --set model.options.{option}=0"
                )
            counts[option] = 1 + max(numbers)
    if not counts:
        return recipe
    model = recipe.model.model_copy(update={"options": {**recipe.model.options, **counts}})
    return recipe.model_copy(update={"model": model})


def build_task(
    recipe: schema.Recipe,
    *,
    classes: int,
    pretrained: str = "none",
    weights: Path | None = None,
    texts: TextTable | None = None,
) -> RecipeTask:
    """Model and heads for ``classes`` identities, freshly drawn from torch's generator: seed it
    around this call. ``pretrained``: ``none``, ``openai`` or a CLIP file, for trunks of CLIP, or
    the ``model.safetensors`` of a run with the same trunk; ``weights``: folder of downloaded files.
    ``texts``: rows of the identities, for recipes that have a text side.

    Raises ReidpipeError for unknown names and options and for an output that does not exist.
    """
    if is_model_of_ours(pretrained):
        model = _build_trunk(model_spec(recipe))
        start_from(model, pretrained)
    else:
        model = _build_trunk(model_spec(recipe), pretrained=pretrained, weights=weights)
    # Length of a vector, or channels of a list of maps.
    sizes: dict[str, Any] = dict(model.trunk.feature_dims)  # type: ignore[arg-type]
    if hasattr(model.trunk, "level_dims"):
        sizes["levels"] = list(model.trunk.level_dims)  # type: ignore[arg-type]
    heads: dict[str, tuple[str, nn.Module]] = {}
    for name, head in recipe.model.heads.items():
        module = _build_head(name, head, sizes, classes, texts, model)
        heads[name] = (head.on, module)
        sizes[name] = getattr(module, "out_dim", classes)
    known = [*sizes, *(("cells", "part_texts") if texts is not None and texts.part_names else ())]
    terms = {
        stage.name: [_term(loss, known) for loss in stage.losses] for stage in recipe.image_stages
    }
    dense = any("cells" in term.on for stage in terms.values() for term in stage)
    grid = fused_grid(model.input_size) if dense else None
    return RecipeTask(model, heads, terms, texts, grid)


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


def _build_head(
    name: str,
    head: schema.Head,
    sizes: dict[str, Any],
    classes: int,
    texts: TextTable | None,
    model: ReidModel,
) -> nn.Module:
    path = f"model.heads.{name}"
    if name in sizes:
        raise ReidpipeError(f"found head '{path}' named like a feature; expected a name of its own")
    _require(head.on, sizes, f"{path}.on")
    if head.kind in ("text-rows", "projection"):
        if texts is None:
            raise ReidpipeError(
                f"found head '{path}' of kind {head.kind} in a recipe without model.text; "
                "expected a text side; type --set model.text.architecture=ViT-B-16"
            )
        if head.kind == "projection":
            return Projection(dim=sizes[head.on], text_dim=texts.dim)
        return TextRows(texts, dim=sizes[head.on])
    if isinstance(sizes[head.on], list):
        given = {
            "channels": sizes[head.on],
            "width": sizes[head.on][-1],
            "dim": texts.dim if texts is not None else 0,
            "grid": fused_grid(model.input_size),
            "input_size": model.input_size,
            "stride": getattr(model.trunk, "stride", 16),
            "patch": getattr(model.trunk, "patch", 16),
        }
        _require(head.kind, FUSIONS, f"{path}.kind")
        accepted = inspect.signature(FUSIONS[head.kind]).parameters
        fitting = {key: value for key, value in given.items() if key in accepted}
        return _make(FUSIONS, head.kind, {**fitting, **head.options}, path)
    options = {"dim": sizes[head.on], "classes": classes, **head.options}
    return _make(HEADS, head.kind, options, path)


def _term(loss: schema.Loss, known: list[str]) -> Term:
    on = (loss.on,) if isinstance(loss.on, str) else tuple(loss.on)
    for name in on:
        _require(name, known, f"losses '{loss.loss}' on")
    module = _make(LOSSES, loss.loss, loss.options, f"losses '{loss.loss}'")
    return Term(f"{loss.loss}/{on[0]}", on, loss.weight, module)


def _require(name: str, known: Mapping[str, Any] | list[str], path: str) -> None:
    if name not in known:
        raise ReidpipeError(
            f"found '{name}' for {path}{nearest(name, known)}; expected one of {', '.join(known)}"
        )


def _make(
    registry: Mapping[str, Callable[..., Any]], name: str, options: dict[str, Any], path: str
) -> Any:
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


def build_texts(
    spec: schema.Text, *, classes: int, pretrained: str, weights: Path | None = None
) -> IdentityTexts:
    """Prompts of ``classes`` identities before CLIP's text tower, drawn from torch's generator.

    ``pretrained`` as for ``build_task``; prompts before a tower of random weights mean nothing, so
    "none" serves tests alone.
    """
    from reid_train.models.clip.text import ClipText
    from reid_train.models.prompts import IdentityPrompts, IdentityTexts

    sizes = {**TEXT_TOWERS[spec.architecture], **spec.options}
    tower = ClipText(**sizes, pretrained=pretrained, weights=weights)
    prompts = IdentityPrompts(tower, classes, subject=spec.noun, tokens=spec.tokens)
    return IdentityTexts(tower, prompts)


def build_prompt_terms(stage: schema.Stage) -> list[Term]:
    """The losses of a stage on frozen features."""
    return [_term(loss, list(OUTPUTS)) for loss in stage.losses]


def training_set(recipe: schema.Recipe, images: Any, rows: list, maps: Any = None) -> TrainingSet:
    """The images all stages train on. Raises ReidpipeError when ``flipped_copies`` differs between
    stages."""
    copies = {getattr(stage.data, "flipped_copies", False) for stage in recipe.image_stages}
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


def build_stages(
    recipe: schema.Recipe, data: TrainingSet, *, seed: int, runtime: Runtime | None = None
) -> list[Stage]:
    """The recipe's stages over images. ``runtime``: where hooks compute; they need one."""
    return [
        _image_stage(stage, data, derive_seed(seed, "data", stage.name), runtime)
        for stage in recipe.image_stages
    ]


def _image_stage(
    stage: schema.Stage, data: TrainingSet, seed: int, runtime: Runtime | None
) -> Stage:
    assert not isinstance(stage.data, schema.Features)
    augmentation = Augmentation(**stage.data.augment.model_dump())
    batches = ReidBatches(data, _sampler(stage, data, seed), augmentation, seed=seed)
    if not stage.hooks:
        return build_stage(stage, batches)
    if runtime is None:
        raise ValueError(f"the hooks of stage '{stage.name}' need a runtime")
    if data.camids is None and any(loss.loss == "camera-prototypes" for loss in stage.losses):
        raise ReidpipeError(
            "found images without camid; expected one for each, as loss camera-prototypes "
            "compares cameras; leave that loss out of the recipe"
        )
    hooks: list[Hook] = []
    for number, spec in enumerate(stage.hooks):
        given = {"batches": batches, "runtime": runtime, **spec.options}
        hooks.append(_make(HOOKS, spec.hook, given, f"hooks.{number}"))
    return replace(build_stage(stage, batches), hooks=hooks)


def build_stage(stage: schema.Stage, batches: BatchSource) -> Stage:
    """A recipe's stage over a source of batches, without its hooks."""
    schedule = stage.schedule.model_dump()
    make: Callable[..., Schedule] = SCHEDULES[schedule.pop("kind")]
    return Stage(
        stage.name,
        stage.epochs,
        batches,
        Optimiser(**{f.name: getattr(stage.optimiser, f.name) for f in fields(Optimiser)}),
        make(**schedule),
        stage.trains,
        stage.accumulate,
        stage.clip,
        stage.ema,
    )


def _sampler(stage: schema.Stage, images: TrainingSet, seed: int) -> Sampler:
    data = stage.data
    assert not isinstance(data, schema.Features)
    if isinstance(data, schema.Shuffled):
        return ShuffledSampler(len(images), batch=data.batch, seed=seed)
    sizes = {"ids": data.ids, "images_per_id": data.images_per_id, "seed": seed}
    if data.iterations is None:
        return IdentitySampler(images.labels, **sizes)
    sampler = RestartedSampler(iterations=data.iterations, **sizes)
    if not stage.clusters:
        sampler.assign(images.labels)
    return sampler


def count_parameters(recipe: schema.Recipe) -> int:
    """Number of parameters of the model that is deployed: trunk without heads, and without tables
    whose size is the dataset's (``cameras: dataset``).
    """
    spec = model_spec(recipe)
    spec["options"] = {k: v for k, v in spec["options"].items() if v != "dataset"}
    return parameters(_build_trunk(spec))


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def fresh(seed: int, make: Callable[[], nn.Module]) -> Any:
    """``make()`` with torch's generator seeded for initial weights; restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return make()
