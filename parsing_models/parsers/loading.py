"""What every loader of a parser does first: read the weights, check the label set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parsing_models.parsers.catalogue import weights_file
from parsing_models.parsers.label_names import target_set
from pipeline.artifacts.atomic import sha256_file
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import read_state_dict, unwrap


@dataclass(frozen=True)
class Weights:
    """A state dict without wrappers; source: what to call it in a message; sha256: of its file,
    empty for a dict that was given; file: None for one."""

    state: Mapping[str, Tensor]
    source: str
    sha256: str = ""
    file: Path | None = None


def read_weights(kind: str, weights: Path | str | Mapping[str, Any] | None) -> Weights:
    """The weights of a parser from a file, a folder that holds it, a state dict (of tensors or
    arrays), or None: from where ``parsing_models.parsers.catalogue.weights_file`` looks."""
    if isinstance(weights, Mapping):
        source = f"the state dict given for '{kind}'"
        return Weights(
            unwrap({key: _tensor(value) for key, value in weights.items()}, source), source
        )
    path = weights_file(kind, weights)
    if path is None:
        raise ValueError(f"parser '{kind}' has no weights to read")
    return Weights(read_state_dict(path), str(path), sha256_file(path), path)


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def check_label_set(value: LabelSet | str, classes: int) -> LabelSet:
    """The label set of that name, for a network of ``classes`` outputs.

    Raises ``ReidpipeError`` for an unknown name or another number of classes.
    """
    found = target_set(value)
    if len(found) != classes:
        raise ReidpipeError(
            f"found weights with {classes} classes; expected {len(found)} for label set "
            f"'{found.name}'; give label_set= the set they were trained on"
        )
    return found
