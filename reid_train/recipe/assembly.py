"""A recipe, its data and its start become one object that can be trained and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pipeline.images.packed import PackedImages
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import Stage
from reid_train.losses import LOSSES
from reid_train.models import COSINE, HEADS
from reid_train.models.deployable import ReidModel, build_model
from reid_train.models.pyramid import fused_grid
from reid_train.models.text_table import TextTable
from reid_train.recipe import schema
from reid_train.recipe.making import fresh, make, require
from reid_train.recipe.stages import build_stages, training_set
from reid_train.recipe.start import is_model_of_ours, start_from
from reid_train.recipe.task import RecipeTask, Term

if TYPE_CHECKING:
    from pipeline.datasets.index import ImageRow, Index
    from pipeline.labels.maps import LabelMapReader
    from reid_train.data.dataset import TrainingSet


@dataclass(frozen=True)
class Assembly:
    """All that training needs. recipe: with the dataset's numbers in it. task, stages: what the
    loop takes. data: the training images.
    """

    recipe: schema.Recipe
    task: RecipeTask
    stages: list[Stage]
    data: TrainingSet

    def meta(self) -> dict[str, Any]:
        """What ``model.json`` says about the model, whatever came of training."""
        # What the weights it started from have settled, and no later start would.
        spec = model_spec(self.recipe)
        spec["options"] |= getattr(self.task.model.trunk, "settled", {})
        return {
            "model": spec,
            "recipe": self.recipe.plain(),
            "identity_order": self.data.pids,
            "preprocessing": self.recipe.input.model_dump(mode="json"),
        }


def assemble(
    recipe: schema.Recipe,
    *,
    index: Index,
    images: PackedImages,
    maps: LabelMapReader | None,
    texts: Path | None,
    seed: int,
    pretrained: str,
    weights: Path,
    runtime: Runtime,
) -> Assembly:
    """Task and stages of a recipe on the train split of an index, a function of ``seed``.

    texts: folder of the text rows, for recipes that have a text side. pretrained, weights: as of
    ``build_task``. Raises ReidpipeError for whatever does not fit.
    """
    recipe = count_sides(recipe, index.rows)
    data = training_set(recipe, images, index.split("train"), maps)
    task = build_task(
        recipe,
        classes=len(data.pids),
        seed=seed,
        pretrained=pretrained,
        weights=weights,
        texts=None if texts is None else TextTable.load(texts, data.pids),
    )
    stages = build_stages(recipe, data, seed=seed, runtime=runtime)
    return Assembly(recipe, task, stages, data)


def model_spec(recipe: schema.Recipe) -> dict[str, Any]:
    """What ``build_model`` reads and ``model.json`` keeps under ``model``."""
    distance = recipe.test.distance
    return {
        "trunk": recipe.model.trunk,
        "options": dict(recipe.model.options),
        "mean": list(recipe.input.mean),
        "std": list(recipe.input.std),
        "input_size": list(recipe.input.size),
        **({} if distance == COSINE else {"distance": distance}),
    }


def count_sides(recipe: schema.Recipe, rows: Sequence[ImageRow]) -> schema.Recipe:
    """The recipe with ``dataset`` for the trunk's number of ``cameras`` or ``views`` replaced by
    the number in all ``rows`` of an index, test images included: their tables must have a row each.

    Raises ReidpipeError when an image has none (of the training images, where a number is given),
    and when a number given has no row for one of the training images.
    """
    counts: dict[str, int] = {}
    for option, name in (("cameras", "camid"), ("views", "view")):
        given = recipe.model.options.get(option)
        if isinstance(given, int) and given:
            numbers = [getattr(row, name) for row in rows if row.split == "train"]
            if None in numbers:
                raise _unknown(name, option, recipe)
            if max(numbers, default=0) >= given:
                raise ReidpipeError(
                    f"found {name} {max(numbers)} among the training images and "
                    f"model.options.{option} {given}; expected a row for each; "
                    f"type --set model.options.{option}=dataset"
                )
        if recipe.model.options.get(option) == "dataset":
            numbers = [getattr(row, name) for row in rows]
            if None in numbers:
                raise _unknown(name, option, recipe)
            counts[option] = 1 + max(numbers)
    if not counts:
        return recipe
    model = recipe.model.model_copy(update={"options": {**recipe.model.options, **counts}})
    return recipe.model_copy(update={"model": model})


def _unknown(name: str, option: str, recipe: schema.Recipe) -> ReidpipeError:
    return ReidpipeError(
        f"found an image without {name}; expected one for each, as recipe '{recipe.name}' embeds "
        f"{option}; type --set model.options.{option}=0"
    )


def build_task(
    recipe: schema.Recipe,
    *,
    classes: int,
    seed: int = 0,
    pretrained: str = "none",
    weights: Path | None = None,
    texts: TextTable | None = None,
) -> RecipeTask:
    """Model and heads for ``classes`` identities. The trunk is drawn from one seed and every head
    from one of its own name, so that neither an order nor another head changes a weight.

    pretrained: ``none``, published weights that the trunk can start from
    (``reid_train.models.STARTS``) or a file of such, or the ``model.safetensors`` of a run with the
    same trunk; ``weights``: folder of downloaded files.
    ``texts``: rows of the identities, for recipes that have a text side.

    Raises ReidpipeError for unknown names and options and for an output that does not exist.
    """
    spec = model_spec(recipe)
    if is_model_of_ours(pretrained):
        model = fresh(seed, lambda: build_model(spec))
        start_from(model, pretrained)
    else:
        model = fresh(seed, lambda: build_model(spec, pretrained=pretrained, weights=weights))
    # Length of a vector, or channels of a list of maps.
    sizes: dict[str, Any] = dict(model.trunk.feature_dims)
    if hasattr(model.trunk, "level_dims"):
        sizes["levels"] = list(model.trunk.level_dims)
    heads: dict[str, tuple[str, nn.Module]] = {}
    for name in _head_order(recipe.model.heads, sizes):
        head = recipe.model.heads[name]
        module = fresh(
            seed,
            lambda name=name, head=head: _build_head(name, head, sizes, classes, texts, model),
            *("head", name),
        )
        heads[name] = (head.on, module)
        sizes[name] = getattr(module, "out_dim", classes)
    known = [*sizes, *(("cells", "part_texts") if texts is not None and texts.part_names else ())]
    terms = {stage.name: build_terms(stage, known) for stage in recipe.image_stages}
    dense = any("cells" in term.on for stage in terms.values() for term in stage)
    grid = fused_grid(model.input_size) if dense else None
    return RecipeTask(model, heads, terms, texts, grid)


def _head_order(heads: Mapping[str, schema.Head], features: Mapping[str, Any]) -> list[str]:
    """Names of the heads so that each comes after what it reads, otherwise by name. Raises
    ReidpipeError for a head that is named like a feature, or that reads what does not exist.
    """
    order: list[str] = []
    for name in heads:
        if name in features:
            raise ReidpipeError(
                f"found head 'model.heads.{name}' named like a feature; expected a name of its own"
            )
    while len(order) < len(heads):
        left = [name for name in sorted(heads) if name not in order]
        ready = [name for name in left if heads[name].on in (*features, *order)]
        if not ready:
            require(heads[left[0]].on, [*features, *order], f"model.heads.{left[0]}.on")
        order += ready
    return order


def _build_head(
    name: str,
    head: schema.Head,
    sizes: dict[str, Any],
    classes: int,
    texts: TextTable | None,
    model: ReidModel,
) -> nn.Module:
    path = f"model.heads.{name}"
    if texts is None and head.kind in ("text-rows", "projection"):
        raise ReidpipeError(
            f"found head '{path}' of kind {head.kind} in a recipe without model.text; "
            "expected a text side; type --set model.text.architecture=ViT-B-16"
        )
    size = sizes[head.on]
    if isinstance(size, list):
        given = {
            "channels": size,
            "width": size[-1],
            **({} if texts is None else {"dim": texts.dim}),
            "grid": fused_grid(model.input_size),
            "input_size": model.input_size,
            "stride": getattr(model.trunk, "stride", 16),
            "patch": getattr(model.trunk, "patch", 16),
        }
    else:
        given = {"dim": size, "classes": classes}
    if texts is not None:
        given |= {"texts": texts, "text_dim": texts.dim}
    return make(HEADS, head.kind, head.options, path, given)


def build_terms(stage: schema.Stage, known: Sequence[str]) -> list[Term]:
    """The losses of a stage, each by a name of its own: ``triplet/feature``, a second one
    ``triplet/feature#2``. known: outputs that they may read.
    """
    terms: list[Term] = []
    count: Counter[str] = Counter()
    for loss in stage.losses:
        on = (loss.on,) if isinstance(loss.on, str) else tuple(loss.on)
        for name in on:
            require(name, known, f"losses '{loss.loss}' on")
        module = make(LOSSES, loss.loss, loss.options, f"losses '{loss.loss}'")
        name = f"{loss.loss}/{on[0]}"
        count[name] += 1
        told = name if count[name] == 1 else f"{name}#{count[name]}"
        terms.append(Term(told, on, loss.weight, module))
    return terms


def count_parameters(recipe: schema.Recipe) -> int:
    """Number of parameters of the model that is deployed: trunk without heads, and without tables
    whose size is the dataset's (``cameras: dataset``).
    """
    spec = model_spec(recipe)
    spec["options"] = {k: v for k, v in spec["options"].items() if v != "dataset"}
    return parameters(build_model(spec))


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
