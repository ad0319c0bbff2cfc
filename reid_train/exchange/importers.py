"""Checkpoints into models: the published files of other people, and our own runs."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.epochs import folder_of
from pipeline.artifacts.runs import find_run, list_runs, matching_runs, nearest_run, parted
from pipeline.artifacts.store import Workspace
from pipeline.plugins import require
from pipeline.plugins.options import check_values
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.checkpoint import META, WEIGHTS, load_strict, read_state_dict, unwrap
from reid_train.engine.runtime import Runtime
from reid_train.exchange.formats import FORMATS
from reid_train.exchange.formats.imported import Imported
from reid_train.models.deployable import ReidModel, build_model


def load_model(
    run_or_file: str | Path | Mapping[str, Any],
    *,
    format: str | None = None,
    workspace: str | Path | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> ReidModel:
    """A retrieval model in eval mode on ``device``.

    ``model(images N,3,H,W float RGB 0..1, camids=None, views=None)`` gives embeddings N,D, not
    normalised; images must be ``model.input_size`` (H, W), mean and std are inside.

    ``run_or_file`` with ``format`` None: a run's folder, a model's folder, its
    ``model.safetensors`` or ``model.json``; or, where there is no such path, the name of a run or
    the beginning of one or of its model's key, as commands take it (``RUN@best`` too), in
    ``workspace``: by default $REIDPIPE_WORKSPACE, then ./reid-workspace. With one of
    :data:`FORMATS`: a published file or a plain state dict; ``module.`` prefixes and usual wrappers
    are stripped, and a missing or unknown key or a wrong shape is refused by name. Options by
    format:

    - ``col780``: ``input_size`` (128, 48), ``mean`` and ``std`` (the training set's);
    - ``clip-reid``: ``input_size`` (256, 128) and ``stride`` (both read off the positions when not
      given), ``sie_coefficient`` 1.0, ``sie`` "camera" | "view" | "camera-view" with the number of
      ``views`` for the last, ``neck`` "before" | "after" batch norm;
    - ``pcl-clip``: those of ``clip-reid`` but ``neck``, which is always after;
    - ``ianet``, ``simple-reid``: ``input_size`` (256, 128);
    - ``torchreid``: ``input_size`` (256, 128), ``architecture`` (read off the file when not given),
      ``distance`` "cosine" | "euclidean", by default the model zoo's;
    - ``fast-reid``: ``input_size`` (by default SBS's 384x128 or 256x128), ``distance`` "cosine".

    ``model.distance`` says how features are compared. ``camids`` and ``views`` read a model's
    table wherever they are given, and raise ``ValueError`` for a row it does not have.

    Raises :class:`ReidpipeError` for what is neither a path nor a run, a beginning that several
    runs share, a run whose model was removed, files that are damaged or of another network,
    unknown formats and options, and a device that is not there.
    """
    target = Runtime.create(device).device
    if format is not None:
        model = import_checkpoint(run_or_file, format, **options).model
    elif options:
        raise ReidpipeError(
            f"found option '{next(iter(options))}' for a model of ours; expected none, its "
            f"{META} says all; give a format ({', '.join(FORMATS)}) for a published file"
        )
    else:
        model = _load_own(run_or_file, workspace)
    return model.to(target).eval()


def import_checkpoint(
    file: str | Path | Mapping[str, Any], format: str, **options: Any
) -> Imported:
    """A published file (or its state dict) as model and classifiers; see :func:`load_model`."""
    if format not in FORMATS:
        raise ReidpipeError(
            f"found format '{format}'{nearest(format, FORMATS)}; expected one of "
            f"{', '.join(FORMATS)}; leave it out for a model of ours"
        )
    read = FORMATS[format]
    known = [p.name for p in signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ReidpipeError(
                f"found option '{name}'{nearest(name, known)} for {format}; expected one "
                f"of {', '.join(known)}; leave it out"
            )
    check_values(read, options, f"format {format}")
    size = options.get("input_size")
    if size is not None and min(size) < 1:
        raise ReidpipeError(f"found input_size={size!r}; expected [H,W] of 1 pixel at least")
    if isinstance(file, Mapping):
        state, source = unwrap(file), "the state dict"
    else:
        state, source = read_state_dict(file), str(file)
    found = read(state, source, **options)
    _check_weights(found.model, source)
    if size is not None:
        _check_size(found.model)
    return found


def _check_weights(model: ReidModel, source: str) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ReidpipeError(
                f"found '{name}' in {source} with NaN or infinite numbers; expected the weights of "
                "a training that went well; give another file"
            )


def _check_size(model: ReidModel) -> None:
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *model.input_size))
    except RuntimeError as error:
        raise ReidpipeError(
            f"found input_size {list(model.input_size)}, of which the network makes nothing "
            f"({str(error).splitlines()[0]}); expected the size it was trained at; leave it out"
        ) from error


def _load_own(
    run_or_file: str | Path | Mapping[str, Any], workspace: str | Path | None
) -> ReidModel:
    if isinstance(run_or_file, Mapping):
        raise ReidpipeError(
            "found a state dict and no format; expected a folder or file of ours; "
            f"give the format: {', '.join(FORMATS)}"
        )
    path = Path(run_or_file)
    folder = _model_folder(path if path.exists() else _run_folder(path, workspace))
    about = read_json(folder / META)
    # What trained it is history; its trunk is what computes.
    for file, used in (about.get("plugins") or {}).items():
        trunks = {name: used["sha256"] for name in used["names"] if name.startswith("trunk ")}
        require(trunks, f"the model {folder.name[:8]}, made with plugin {file}")
    model = build_model(about["model"])
    load_strict(model, read_state_dict(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return model


def _run_folder(name: Path, root: str | Path | None) -> Path:
    """``runs/<run>/`` of the run that ``name`` is meant to be; of an epoch the folder of its
    files.
    """
    workspace = Workspace.usual(root)
    runs = list_runs(workspace)
    reference, _ = parted(runs, str(name))
    if not matching_runs(runs, str(reference)):
        hint = nearest_run(runs, str(name))
        newest = f" (the newest is '{runs[-1].name}')" if runs and not hint else ""
        cure = "give one" if runs else "type reidpipe train"
        raise ReidpipeError(
            f"found no file '{name}', and no run of that name{hint} among the {len(runs)} of "
            f"{workspace.root}{newest}; expected a run or a path; {cure}, or give "
            "workspace=FOLDER"
        )
    found = find_run(workspace, str(name), runs)
    if found.model.name == "epoch":
        return folder_of(workspace, found.model)
    run = find_run(workspace, reference, runs)  # its last epoch, if one was named
    return workspace.root / "runs" / run.name


def _model_folder(path: Path) -> Path:
    """Folder with both files of a model, from a run's folder, that folder or one of the files."""
    folder = path.parent if path.name in (META, WEIGHTS) else path
    if (folder / "run.json").is_file():
        # <workspace>/runs/<run>/run.json -> <workspace>/artifacts/model/<key>
        key = read_json(folder / "run.json")["model_key"]
        run, folder = folder.name, folder.resolve().parent.parent / "artifacts" / "model" / key
        if not all((folder / name).is_file() for name in (META, WEIGHTS)):
            raise ReidpipeError(
                f"found no model of run '{run}' in {folder}: it was removed; expected its weights; "
                f"type reidpipe export {run} --format safetensors, which makes them again"
            )
    for name in (META, WEIGHTS):
        if not (folder / name).is_file():
            raise ReidpipeError(
                f"found no {name} in {folder}; expected a run or a model of ours; give its folder, "
                f"or a format ({', '.join(FORMATS)}) for a published file"
            )
    return folder
