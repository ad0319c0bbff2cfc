"""Training that starts from another run: domain adaptation, or more epochs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.epochs import HEADS
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import META, load_strict, read_state_dict
from reid_train.models.deployable import ReidModel

if TYPE_CHECKING:
    from reid_train.recipe.task import RecipeTask


log = logging.getLogger(__name__)


def is_model_of_ours(pretrained: str) -> bool:
    """Whether this is the ``model.safetensors`` of a run, by the names inside."""
    path = Path(pretrained)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    names = set(read_state_dict(path))
    own = {name for name in names if name.startswith("trunk.")}
    return bool(own) and names - own == {"mean", "std"}


def start_from(model: ReidModel, path: str) -> None:
    """Load a run's weights, batch norms' statistics included, into ``model``, which must be of the
    same trunk and options.

    Raises ReidpipeError for other names or shapes, another activation, and when the run normalised
    its images by other constants: its weights would then see other colours.
    """
    state = read_state_dict(path)
    for name in ("mean", "std"):
        found, own = state[name].flatten(), getattr(model, name).flatten()
        if not torch.allclose(found, own, atol=1e-6):
            text = "[" + ", ".join(f"{value:.6g}" for value in found.tolist()) + "]"
            raise ReidpipeError(
                f"found weights for images normalised by {name} {text} in {path}; expected "
                f"{[round(value, 6) for value in own.tolist()]}; type --set 'input.{name}={text}'"
            )
    _compare_activation(model, path)
    load_strict(model, state, source=path)


def continue_heads(task: RecipeTask, start: Path, dataset: str, pids: Sequence[int]) -> bool:
    """Load the heads of the training that left its model in ``start`` into those of ``task``, if
    they are of the same people of the same ``dataset``, in the same order (``pids``); else they
    stay as they were drawn, which is said. Whether they were loaded.
    """
    if not task.heads:
        return False
    about = read_json(start / META)
    if about.get("dataset") != dataset or about.get("identity_order") != list(pids):
        reason = f"they knew the people of {about.get('dataset') or 'a dataset that is not told'}"
    elif not (start / HEADS).is_file():
        reason = f"{start.name[:8]} was trained before heads were kept"
    else:
        state = read_state_dict(start / HEADS)
        named = {name.removeprefix("heads."): value for name, value in state.items()}
        load_strict(task.heads, named, source=str(start / HEADS))
        return True
    log.warning("heads (classifiers) start fresh: %s", reason)
    return False


def _compare_activation(model: ReidModel, path: str) -> None:
    """An activation has no weight to tell it by: what the run's description says of it must be what
    the model has.
    """
    own, meta = getattr(model.trunk, "activation", None), Path(path).with_name(META)
    if own is None or not meta.is_file():
        return
    found = read_json(meta).get("model", {}).get("options", {}).get("activation", own)
    if found != own:
        raise ReidpipeError(
            f"found weights trained with activation {found} in {path}; expected {own}; type "
            f"--set model.options.activation={found}"
        )
