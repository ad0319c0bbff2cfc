"""Workers of a recipe's steps: model, and on its text side frozen features, prompts and rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.artifacts.atomic import replacing, write_json
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.epochs import HEADS
from pipeline.artifacts.running import Counter
from pipeline.artifacts.store import versions
from pipeline.datasets.index import read_index
from pipeline.images.packed import PackedImages
from pipeline.labels.maps import LabelMapReader
from pipeline.plugins import described
from pipeline.terminal.errors import DamagedFile
from pipeline.terminal.watching import QUIET
from reid_train.data.cells import pool, to_cells
from reid_train.data.dataset import TrainingSet
from reid_train.data.features import FeatureBatches, FrozenFeatures
from reid_train.engine import loop
from reid_train.engine.checkpoint import (
    WEIGHTS,
    finished_model,
    read_tensors,
    save_model,
    save_tensors,
)
from reid_train.engine.lines import Lines
from reid_train.engine.runtime import Runtime, derive_seed
from reid_train.exchange.work import convert
from reid_train.models.deployable import build_model
from reid_train.models.prompts import fixed_parts
from reid_train.models.pyramid import token_map
from reid_train.models.text_table import TextTable
from reid_train.recipe import schema
from reid_train.recipe.assembly import Assembly, assemble, build_terms, parameters
from reid_train.recipe.loading import from_plain
from reid_train.recipe.making import fresh
from reid_train.recipe.observer import Observer, parted
from reid_train.recipe.precision import Precision
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.stages import build_stage
from reid_train.recipe.start import continue_heads
from reid_train.recipe.steps import RUN
from reid_train.recipe.texts import build_texts

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job
    from reid_train.models.prompts import IdentityTexts


PROMPTS, ORDER = "prompts.safetensors", "prompts.json"
BATCH = 64


def features(job: Job) -> dict[str, Any]:
    """Worker of the step "features": the training images through the frozen trunk, once.

    inputs: index, images (packed with the recipe's test filter: no augmentation), and maps when
    parts are asked for. params: ``model`` (what ``build_model`` reads), ``pretrained``, ``seed``
    (of a trunk that starts from random weights), ``parts``. Writes ``FrozenFeatures``.
    """
    index = read_index(job.inputs["index"])
    maps = LabelMapReader(job.inputs["maps"]) if job.params["parts"] else None
    images = PackedImages.open(job.inputs["images"])
    data = TrainingSet(images, index.split("train"), maps=maps)
    runtime = Runtime.create(job.device, threads=job.threads)
    pretrained, weights = _pretrained(job), job.workspace / "weights"
    model = fresh(
        int(job.params["seed"]),
        lambda: build_model(job.params["model"], pretrained=pretrained, weights=weights),
    )
    model = model.to(runtime.device).eval()
    projected: list[torch.Tensor] = []
    parts: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []
    done = Counter(job.running, len(data))
    with torch.inference_mode():
        for start in range(0, len(data), BATCH):
            places = torch.arange(start, min(start + BATCH, len(data))).numpy()
            pixels = torch.from_numpy(data.read(places)).to(runtime.device)
            x = (pixels.permute(0, 3, 1, 2).float() / 255 - model.mean) / model.std
            tokens = model.trunk.tokens(x).projected.float()  # type: ignore[operator]
            projected.append(tokens[:, 0].cpu())
            if maps is not None:
                grid = model.trunk.cells(model.input_size)  # type: ignore[operator]
                labels, confidence = (torch.from_numpy(m) for m in data.read_maps(places))
                names = maps.label_set.names
                cells = to_cells(labels, confidence, grid, parts=len(names))
                dense = token_map(tokens[:, 1:], grid.shape).cpu()
                means, seen = pool(dense, cells, len(names))
                parts.append(means.half())
                counts.append(seen)
            done.add(len(places))
    frozen = FrozenFeatures(
        projected=torch.cat(projected),
        labels=torch.from_numpy(data.labels),
        pids=data.pids,
        parts=torch.cat(parts) if maps is not None else None,
        counts=torch.cat(counts) if maps is not None else None,
        part_names=maps.label_set.names if maps is not None else (),
    )
    frozen.save(job.folder)
    return {"images": len(data), "identities": len(data.pids), "dim": frozen.projected.shape[1]}


def prompts(job: Job) -> dict[str, Any]:
    """Worker of the step "prompts": one stage of prompt tuning.

    inputs: features, and prompts of the stage before it, if any. params: ``text`` and ``stage``
    (plain parts of a recipe), ``pretrained``, ``seed``. Writes ``prompts.safetensors`` (the learnt
    vectors, C,tokens,width) and ``prompts.json`` (the identity of each row, in order).
    """
    spec = schema.Text.model_validate(job.params["text"])
    stage = schema.Stage.model_validate(job.params["stage"])
    assert isinstance(stage.data, schema.Features)
    seed = int(job.params["seed"])
    frozen = FrozenFeatures.load(job.inputs["features"])
    runtime = Runtime.create(job.device, threads=job.threads, join=True)
    texts = _texts(job, spec, len(frozen.pids), seed)
    terms = {stage.name: build_terms(stage, OUTPUTS)}
    task = PromptTask(texts, terms, frozen.part_names)
    batches = FeatureBatches(
        frozen,
        batch=stage.data.batch,
        parts=stage.data.parts,
        seed=derive_seed(seed, "data", stage.name),
    )
    result = loop.train(
        task,
        [build_stage(stage, batches)],
        runtime=runtime,
        folder=job.folder,
        seed=seed,
        progress=job.progress,
        watching=job.watching,
        running=job.running,
    )
    if runtime.main:
        _save(job.folder, texts, frozen.pids)
        (job.folder / loop.STATE).unlink(missing_ok=True)
    runtime.barrier()
    return {
        "identities": len(frozen.pids),
        "epochs": result.epochs,
        "loss": result.figures["loss"],
        "images_per_s": round(result.images_per_s, 2),
        "seconds": round(result.seconds, 3),
    }


def text(job: Job) -> dict[str, Any]:
    """Worker of the step "text": the table of rows that image stages read.

    inputs: prompts, and maps when there are part prompts (their label set names the parts).
    params: ``text``, ``pretrained``, ``seed``. Writes a ``TextTable``.
    """
    spec = schema.Text.model_validate(job.params["text"])
    pids = read_json(job.inputs["prompts"] / ORDER)["pids"]
    runtime = Runtime.create(job.device, threads=job.threads)
    texts = _texts(job, spec, len(pids), int(job.params["seed"])).to(runtime.device)
    names: tuple[str, ...] = ()
    parts = None
    with torch.no_grad():
        if spec.parts != "none":
            names = LabelMapReader(job.inputs["maps"]).label_set.names
            if spec.parts == "identity":
                parts = texts.part_table(names)
            else:
                fixed = fixed_parts(texts.text_encoder, names, subject=spec.noun)
                parts = texts.text_encoder.encode(*fixed)
        table = TextTable(texts.table(), pids, parts, names)
    table.save(job.folder)
    return {"identities": len(pids), "parts": len(names), "dim": table.dim}


def _pretrained(job: Job) -> str:
    pretrained = job.params["pretrained"]
    if pretrained == RUN:
        return str(job.inputs["start"] / WEIGHTS)
    return str(job.files["pretrained"]) if pretrained == "file" else pretrained


def _texts(job: Job, spec: schema.Text, classes: int, seed: int) -> IdentityTexts:
    """Prompts for ``classes`` identities, those of the stage before when there is one."""
    texts = fresh(
        seed,
        lambda: build_texts(
            spec, classes=classes, pretrained=_pretrained(job), weights=job.workspace / "weights"
        ),
    )
    if "prompts" in job.inputs:
        own = texts.prompt_learner.cls_ctx
        learnt = read_tensors(job.inputs["prompts"] / PROMPTS, {"cls_ctx": own.ndim})["cls_ctx"]
        if learnt.shape != own.shape:
            raise DamagedFile(
                f"found prompts of shape {tuple(learnt.shape)} in {job.inputs['prompts']}; "
                f"expected {tuple(own.shape)}; type reidpipe cache verify --repair"
            )
        with torch.no_grad():
            texts.prompt_learner.cls_ctx.copy_(learnt)
    return texts


def _save(folder: Path, texts: IdentityTexts, pids: list[int]) -> None:
    from safetensors.torch import save_file

    learnt = texts.prompt_learner.cls_ctx.detach().cpu().contiguous()
    with replacing(folder / PROMPTS) as temporary:
        save_file({"cls_ctx": learnt}, temporary)
    write_json(folder / ORDER, {"pids": pids})


log = logging.getLogger(__name__)


def model(job: Job) -> dict[str, Any]:
    """Worker of the step "model": train, or go on training where a killed run left its state;
    returns a summary. A published file that was imported is converted instead.

    inputs: index, images (packed at the recipe's size), optionally maps, text and start (a model to
    go on from). params: ``recipe`` (plain form, image stages alone), ``seed``, ``pretrained``
    (``none``, ``openai``, ``imagenet``, a package of ``INSTALLED``, ``file`` for ``job.files``, or
    ``run`` for the start).

    Writes ``model.safetensors`` and ``model.json`` (the model alone), ``heads.safetensors`` (of
    training, for who goes on from here), and ``log.jsonl``. ``job.validation`` and ``job.keep`` add
    ``validation.json`` and ``epochs/``, and change nothing of these. ``state.pt`` exists while
    training and is deleted once the model is written.
    Under torchrun every process calls this and the first one writes.
    """
    if "format" in job.params:
        return convert(job)
    if (done := finished_model(job.folder)) is not None:
        (job.folder / loop.STATE).unlink(missing_ok=True)  # of one killed before it could
        return done["training"]
    index = read_index(job.inputs["index"])
    recipe, seed = from_plain(job.params["recipe"]), int(job.params["seed"])
    continues = job.params["pretrained"] == RUN
    runtime = Runtime.create(job.device, recipe.precision, job.threads, join=True)
    precision = Precision.of(job.params["recipe"], runtime)
    # Of one who goes on: no batch and no augmentation comes as it came before.
    drawn = derive_seed(seed, "continued", job.inputs["start"].name) if continues else seed
    training = assemble(
        recipe,
        index=index,
        images=PackedImages.open(job.inputs["images"]),
        maps=LabelMapReader(job.inputs["maps"]) if "maps" in job.inputs else None,
        texts=job.inputs.get("text"),
        seed=drawn,
        pretrained=_pretrained(job),
        weights=job.workspace / "weights",
        runtime=runtime,
    )
    log.info(
        "%s: %d images of %d identities",
        *(recipe.name, len(training.data), len(training.data.pids)),
    )
    if continues:
        continue_heads(training.task, job.inputs["start"], index.dataset, training.data.pids)
    constant = {
        **training.meta(),
        "seed": seed,
        "pretrained": job.params["pretrained"],
        "plugins": described(job.weights),
        "dataset": index.dataset,
        "runtime": runtime.facts(),
        "versions": versions(),
    }

    def summary(result: loop.TrainResult) -> dict[str, Any]:
        return {**_summary(training, index.dataset, result), **precision.facts()}

    def about(result: loop.TrainResult) -> dict[str, Any]:
        figures = result.figures  # of training, means over the last epoch
        return {**constant, "training": summary(result), "metrics": figures}

    for line in precision.lines():
        Lines(job.watching if runtime.main else QUIET, bar=False).say(line)
    stages = {stage.name: stage.epochs for stage in training.stages}
    observer = Observer(job, stages, about)
    result = loop.train(
        training.task,
        training.stages,
        runtime=runtime,
        folder=job.folder,
        seed=drawn,
        progress=job.progress,
        watching=job.watching,
        running=job.running,
        channels_last=recipe.channels_last,
        after_epoch=observer if observer.asked else None,
    )
    if runtime.main:
        observer.finish()
        _, heads = parted(training.task.state_dict())
        if heads:
            save_tensors(job.folder / HEADS, heads)
        save_model(job.folder, training.task.model, about(result))
        (job.folder / loop.STATE).unlink(missing_ok=True)
    runtime.barrier()
    return summary(result)


def _summary(training: Assembly, dataset: str, result: loop.TrainResult) -> dict[str, Any]:
    return {
        "recipe": training.recipe.name,
        "dataset": dataset,
        "identities": len(training.data.pids),
        "images": len(training.data),
        "parameters": parameters(training.task.model),
        "epochs": result.epochs,
        "steps": result.steps,
        "loss": result.figures["loss"],
        "figures": result.figures,
        "images_per_s": round(result.images_per_s, 2),
        "seconds": round(result.seconds, 3),
    }
