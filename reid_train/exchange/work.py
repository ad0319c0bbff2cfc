"""Workers of an imported checkpoint: what network it is, and the model of ours it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.artifacts.atomic import sha256_file, write_json
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.store import versions
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import save_model
from reid_train.exchange.importers import import_checkpoint
from reid_train.recipe.assembly import parameters

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job
    from reid_train.exchange.formats.imported import Imported

NETWORK = "network.json"


def describe(job: Job) -> dict[str, Any]:
    """Worker of step "checkpoint": a published file to ``network.json``, which says what network
    it is (``model``, as ``build_model`` reads it) and how its authors test it (``test_filter``,
    ``flip``).

    files: checkpoint. params: ``format`` and its ``options``. Raises ReidpipeError for a file that
    is not of the format.
    """
    found = _read(job)
    size = found.spec["input_size"]
    write_json(
        job.folder / NETWORK,
        {"model": found.spec, "test_filter": found.test_filter, "flip": found.flip},
    )
    return {"trunk": found.spec["trunk"], "input_size": size, "classifiers": list(found.heads)}


def convert(job: Job) -> dict[str, Any]:
    """Worker of step "model" for a published file: ``model.safetensors`` and ``model.json``.

    inputs: the checkpoint's description. files, params: as for ``describe``, and ``recipe``: what
    the evaluation of a model needs to know (name, input, test). Classifiers are left out: they
    belong to the identities of the training set.
    """
    if sha256_file(job.files["checkpoint"]) != job.params["sha256"]:
        raise ReidpipeError(
            f"found other bytes in {job.files['checkpoint']} than when it was imported; expected "
            "the same file; type reidpipe import again"
        )
    found = _read(job)
    summary = {
        "format": job.params["format"],
        "trunk": found.spec["trunk"],
        "input_size": found.spec["input_size"],
        "parameters": parameters(found.model),
    }
    meta = {
        "model": read_json(job.inputs["checkpoint"] / NETWORK)["model"],
        "recipe": job.params["recipe"],
        "seed": job.params["seed"],
        "dataset": job.params["dataset"],
        "preprocessing": job.params["recipe"]["input"],
        "imported": {
            "format": job.params["format"],
            "options": job.params["options"],
            "sha256": job.params["sha256"],
        },
        "versions": versions(),
    }
    save_model(job.folder, found.model, meta)
    return summary


def _read(job: Job) -> Imported:
    return import_checkpoint(
        job.files["checkpoint"], job.params["format"], **dict(job.params["options"])
    )
