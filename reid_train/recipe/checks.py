"""What can be wrong with a recipe, found before hours of other work: names, then options.

``check_names`` reads tables and the text of plugins, ``check_labels`` the dataset's index; neither
imports torch. ``check_made`` makes the model's parts once, and is for recipes whose model is about
to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.index import Index
from pipeline.plugins import Door, load_given
from pipeline.terminal.errors import ReidpipeError
from reid_train.data import SAMPLERS
from reid_train.engine import SCHEDULES
from reid_train.hooks import HOOKS
from reid_train.losses import LOSSES
from reid_train.models import HEADS, TRUNKS
from reid_train.recipe.schema import Features, IdentityBatches, Recipe, Shuffled
from reid_train.recipe.steps import encoder_spec

# Images of people, (H, W), in most of the field.
USUAL = (256, 128)
# Losses that compare the people of a batch with each other.
COMPARING = ("pair-circle", "pair-contrastive", "pair-cosface", "triplet")


def check_names(recipe: Recipe) -> None:
    """Raise ReidpipeError, naming the nearest, for a trunk, head, loss, sampler, schedule or hook
    that neither the package nor a plugin has.
    """
    for door, name, path in _named(recipe):
        try:
            door.check(name, path)
        except ReidpipeError as error:
            raise ReidpipeError(f"recipe '{recipe.name}': {error}") from error


def _named(recipe: Recipe) -> list[tuple[Door, str, str]]:
    model = recipe.model
    found = [(TRUNKS, model.trunk, "model.trunk")]
    if model.teacher is not None:
        found.append((TRUNKS, model.teacher.trunk, "model.teacher.trunk"))
    found += [(HEADS, head.kind, f"model.heads.{name}.kind") for name, head in model.heads.items()]
    for stage in recipe.stages:
        path = f"stages.{stage.name}"
        if not isinstance(stage.data, Features):
            found.append((SAMPLERS, stage.data.kind, f"{path}.data.kind"))
        found.append((SCHEDULES, stage.schedule.kind, f"{path}.schedule.kind"))
        found += [(LOSSES, loss.loss, f"{path}.losses") for loss in stage.losses]
        found += [(HOOKS, hook.hook, f"{path}.hooks") for hook in stage.hooks]
    return found


def check_labels(
    recipe: Recipe, index: Index, label_free: Callable[[], Sequence[str]], *, typed: str
) -> None:
    """Raise ReidpipeError for training images without identity and a recipe that needs it.
    label_free: gives the recipes that do not. typed: the dataset as it was typed.
    """
    rows = index.split("train")
    unnamed = [row.key for row in rows if row.pid is None]
    if recipe.label_free or not unnamed:
        return
    others = label_free()
    example = next((name for name in others if name.endswith("-tiny")), others[0])
    raise ReidpipeError(
        f"found {len(unnamed)} of {len(rows)} training images of {typed} without identity (first "
        f"{unnamed[0]}); expected a pid for each, as recipe '{recipe.name}' learns from them, or a "
        f"recipe that needs none ({', '.join(others)}); type reidpipe train {example} "
        f"--dataset {typed}"
    )


def check_made(recipe: Recipe, pretrained: str = "none") -> None:
    """Raise ReidpipeError for options that a part does not take, for outputs that nothing gives and
    for a start (``pretrained``) the trunk does not have: model, heads and losses are made once,
    with random weights and for two identities, and so is what prompts are tuned on. Samplers and
    hooks, which ask for the training images, are not made.
    """
    import torch

    from reid_train.models.deployable import check_start
    from reid_train.models.text_table import TextTable
    from reid_train.recipe.stages import check_stage
    from reid_train.recipe.texts import tower_sizes

    load_given()
    # A file may be a run's own model, which any trunk can go on from.
    if pretrained != "none" and not Path(pretrained).is_file():
        check_start(recipe.model.trunk, pretrained)
    texts = None
    if recipe.model.text is not None:
        rows = torch.zeros(2, tower_sizes(recipe.model.text)["output_dim"])
        names = [] if recipe.model.text.parts == "none" else ["part"]
        texts = TextTable(rows, [0, 1], rows[:1] if names else None, names)
    options = {k: 2 if v == "dataset" else v for k, v in recipe.model.options.items()}
    model = recipe.model.model_copy(update={"options": options})
    _check_size(recipe.model_copy(update={"model": model}), texts)
    if recipe.prompt_stages:
        _check_encoder(recipe)
    _check_neck(recipe)
    for stage in recipe.stages:
        check_stage(stage)
    _check_batches(recipe, texts)


def _check_neck(recipe: Recipe) -> None:
    """Raise ReidpipeError for batch norms in the embedding that no loss would train."""
    read = set().union(*(stage.reads for stage in recipe.image_stages))
    read |= {head.on for head in recipe.model.heads.values()}
    if recipe.model.options.get("neck") == "after" and "embedding" not in read:
        raise ReidpipeError(
            f"found model.options.neck=after and no loss or head of recipe '{recipe.name}' on "
            "embedding; expected one that trains its batch norms, as in pcl-clip; leave neck out"
        )


def _check_batches(recipe: Recipe, texts: Any) -> None:
    """Raise ReidpipeError for batches of one person or one image, of which nothing is learnt."""
    from torch import nn

    from reid_train.recipe.assembly import build_task

    for stage in recipe.image_stages:
        data = stage.data
        losses = sorted({loss.loss for loss in stage.losses} & set(COMPARING))
        if isinstance(data, IdentityBatches) and data.ids == 1 and losses:
            raise ReidpipeError(
                f"found batches of 1 person in stage '{stage.name}' of recipe '{recipe.name}'; "
                f"expected 2 or more, whom {losses[0]} compares; "
                f"type --set stages.{stage.name}.data.ids=2"
            )
        key, images = "", 0
        if isinstance(data, IdentityBatches):
            key, images = "ids", data.ids * data.images_per_id
        elif isinstance(data, Shuffled):
            key, images = "batch", data.batch
        if images == 1:
            task = build_task(recipe, classes=2, texts=texts)
            if any(isinstance(module, nn.BatchNorm1d) for module in task.modules()):
                raise ReidpipeError(
                    f"found batches of 1 image in stage '{stage.name}' of recipe '{recipe.name}'; "
                    "expected 2 or more, whose features batch norm compares; "
                    f"type --set stages.{stage.name}.data.{key}=2"
                )


def _check_size(recipe: Recipe, texts: Any) -> None:
    """Make the task and compute one image. Raise ReidpipeError for a size, or for options, of which
    the network makes nothing and of others something: what it never computes is a fault of its own,
    and keeps its traceback.
    """
    import torch

    from reid_train.recipe.assembly import build_task

    faults = (RuntimeError, ValueError, AssertionError, ZeroDivisionError)

    def fault(recipe: Recipe) -> Exception | None:
        try:
            model = build_task(recipe, classes=2, texts=texts).model.eval()
            with torch.inference_mode():
                model(torch.zeros(1, 3, *recipe.input.size))
        except faults as error:
            return error
        return None

    if (error := fault(recipe)) is None:
        return
    trunk, options = recipe.model.trunk, dict(recipe.model.options)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    usual = recipe.model_copy(update={"input": recipe.input.model_copy(update={"size": USUAL})})
    if fault(usual) is None:
        raise ReidpipeError(
            f"found input.size {list(recipe.input.size)}, of which '{trunk}' makes nothing "
            f"({reason}); expected one that fits its strides; type --set input.size={list(USUAL)}"
        ) from error
    plain = usual.model_copy(update={"model": recipe.model.model_copy(update={"options": {}})})
    if options and fault(plain) is None:
        raise ReidpipeError(
            f"found model.options {options}, of which '{trunk}' makes nothing ({reason}); expected "
            "values that fit each other and input.size; change them with --set model.options.X=Y"
        ) from error
    raise error


def _check_encoder(recipe: Recipe) -> None:
    """Raise ReidpipeError where the features that prompts are tuned on cannot be read, or lie in
    another space than the texts'.
    """
    import torch

    from reid_train.models.deployable import build_model
    from reid_train.recipe.texts import tower_sizes
    from reid_train.recipe.weights import CLIPS

    text = recipe.model.text
    assert text is not None  # a recipe's own check
    spec = encoder_spec(recipe)
    path = "model.teacher.trunk" if recipe.model.teacher else "model.trunk"
    named = {CLIPS.get(name, name): name for name in TRUNKS if name.startswith("clip-")}
    instead = f"type --set {path}={named.get(text.architecture, 'clip-rn50')}"
    trunk: Any = build_model(spec).eval().trunk
    if not callable(getattr(trunk, "tokens", None)):
        raise ReidpipeError(
            f"found {path} '{spec['trunk']}', which has no image-text space; expected one that "
            f"has, as prompts are tuned in it ({', '.join(named.values())}); {instead}"
        )
    with torch.inference_mode():
        found = trunk.tokens(torch.zeros(1, 3, *recipe.input.size)).projected.shape[-1]
    expected = tower_sizes(text)["output_dim"]
    if found != expected:
        raise ReidpipeError(
            f"found {path} '{spec['trunk']}', whose image-text space has {found} numbers; "
            f"expected {expected}, those of model.text.architecture '{text.architecture}'; "
            f"{instead}"
        )
