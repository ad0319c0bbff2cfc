"""Model files and training state. Nothing here runs code found in a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.artifacts.atomic import replacing, sha256_file, write_json
from pipeline.artifacts.checked import checked, read_json
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from pipeline.terminal.machine import tells_of_content

WEIGHTS = "model.safetensors"
META = "model.json"

# Files of the field wrap the weights under one of these keys, beside epoch, optimiser, arguments.
WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "net", "network", "params")
PREFIXES = ("module.", "_orig_mod.")
DEEPEST = 8
# Of a training state: what is counted, and what else it has, by type.
_COUNTS = ("epoch", "step", "images", "steps", "log_bytes", "stage")
_STATE: dict[str, Any] = {
    "identity": dict, **dict.fromkeys(_COUNTS, int), "task": dict, "trained": list,
    "optimiser": object, "scaler": dict, "ema": (dict, type(None)), "hooks": list, "sums": dict,
    "seconds": float,
}  # fmt: skip
# A module makes these itself; a file's copy is never needed nor trusted.
REBUILT = ("*relative_position_index", "*token_prefix", "*token_suffix")
OPTIONAL = ("*num_batches_tracked",)


def save_model(folder: Path | str, model: nn.Module, meta: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` (every parameter and buffer) and ``model.json``."""
    save_weights(folder, model.state_dict(), meta)


def save_weights(
    folder: Path | str,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    *,
    inside: Mapping[str, str] | None = None,
) -> None:
    """``save_model`` of a state dict. inside: as of ``save_tensors``.

    ``meta`` is JSON-plain; the SHA-256 of the weights is added to it as ``weights_sha256``. The
    JSON is written last, so a folder with one has the weights it speaks of.
    """
    folder = Path(folder)
    save_tensors(folder / WEIGHTS, state, inside=inside)
    write_json(folder / META, {**meta, "weights_sha256": sha256_file(folder / WEIGHTS)})


def save_tensors(
    path: Path, state: Mapping[str, Tensor], *, inside: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file. inside: what it says of itself, wherever it is copied to; in one
    entry, since several have another order in every file.
    """
    tensors = {key: value.detach().cpu() for key, value in state.items()}
    with replacing(path) as temporary:
        # safetensors refuses tensors that share memory, and writes dense ones only.
        dense = {key: value.contiguous().clone() for key, value in tensors.items()}
        save_file(dense, temporary, metadata=dict(inside or {}) or None)


def finished_model(folder: Path | str) -> dict[str, Any] | None:
    """``model.json`` of a folder whose weights are the ones it speaks of, else None.

    There is one without a complete artifact when a run was killed between the two. One that cannot
    be read is none.
    """
    meta, weights = Path(folder) / META, Path(folder) / WEIGHTS
    if not (meta.is_file() and weights.is_file()):
        return None
    try:
        found = read_json(meta)
    except DamagedFile:
        return None
    return found if sha256_file(weights) == found["weights_sha256"] else None


def save_state(path: Path | str, state: Mapping[str, Any]) -> None:
    """Write tensors and plain Python values so that ``load_state`` can read them back.

    Raises TypeError, naming the entry, for any other type: found now and not at resume.
    """
    _require_plain(state, "state")
    # Through a file of our own: torch's reports a full disk as a RuntimeError about positions.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(state), file)


def _require_plain(value: Any, name: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{name}.{index}")
    elif not (value is None or type(value) in (bool, int, float, str) or torch.is_tensor(value)):
        raise TypeError(f"{name} is {type(value).__name__}; training state holds plain values only")


def load_state(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what ``save_state`` wrote. Raises ReidpipeError when the file is damaged."""
    try:
        return _loaded(path, device)
    except _Unreadable as error:
        raise ReidpipeError(
            f"found a training state that cannot be read ({path}: {_first_line(error)}); expected "
            f"tensors and plain values; delete it to start over: type rm {path}"
        ) from error


def is_whole_state(state: Any, stages: Sequence[tuple[int, int]]) -> bool:
    """Whether a training state has all that is read of it, of its type and in its bounds. stages:
    epochs and hooks of each stage of the training.
    """
    if not isinstance(state, dict):
        return False
    if not all(name in state and isinstance(state[name], kind) for name, kind in _STATE.items()):
        return False
    if any(type(state[name]) is not int or state[name] < 0 for name in _COUNTS):
        return False
    if state["stage"] >= len(stages):
        return False
    epochs, hooks = stages[state["stage"]]
    return (
        state["epoch"] <= epochs
        and len(state["hooks"]) == hooks
        and all(map(torch.is_tensor, state["task"].values()))
        and all(map(torch.is_tensor, (state["ema"] or {}).values()))
        and all(type(value) in (int, float) for value in state["sums"].values())
        and state["seconds"] >= 0
    )


def check_order(
    state: Mapping[str, Any], names: Sequence[str], optimiser: torch.optim.Optimizer, path: Path
) -> None:
    """Raise ReidpipeError unless a training state is about these parameters in this order: the
    optimiser's part of it is by position, and in another order would fit other tensors. Kernels
    that step do not look at shapes: averages of another size are memory of somebody else.
    """
    if state.get("trained") != list(names):
        raise ReidpipeError(
            f"found the state of other parameters in {path}; expected {', '.join(names[:3])}, ... "
            f"in this order; to start over type rm {path}"
        )
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    saved = state["optimiser"]
    entries = saved.get("state") if isinstance(saved, Mapping) else None
    fits = isinstance(entries, Mapping) and all(
        type(place) is int
        and 0 <= place < len(trained)
        and isinstance(values, Mapping)
        and all(
            value.numel() == 1 or value.shape == trained[place].shape
            for value in values.values()
            if torch.is_tensor(value)
        )
        for place, values in entries.items()
    )
    groups = saved.get("param_groups") if isinstance(saved, Mapping) else None
    own = [len(group["params"]) for group in optimiser.param_groups]
    if not fits or not isinstance(groups, list) or own != [_members(group) for group in groups]:
        raise ReidpipeError(
            f"found an optimiser's state of other parameters in {path}; expected averages of their "
            f"shapes; to start over type rm {path}"
        )


def _members(group: Any) -> int:
    members = group.get("params") if isinstance(group, Mapping) else None
    return len(members) if isinstance(members, list) else -1


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Name -> tensor on the CPU from a ``.safetensors`` or PyTorch file, with wrappers and
    ``module.`` prefixes removed.

    PyTorch files are read with ``weights_only=True``; numpy scalars (a metric saved beside the
    weights) are let through, they run no code. Raises ReidpipeError when the file is absent,
    damaged, other than what was recorded of it, holds objects that are not tensors, or no tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise ReidpipeError(f"found no file {path}; expected weights; type the path of a file")
    checked(path)
    if path.suffix == ".safetensors":
        return unwrap(read_tensors(path), str(path))
    try:
        # A TorchScript archive is refused here too: opening one can run code.
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = _loaded(path, "cpu")
    except _Unreadable as error:
        raise _unreadable(path, error) from error
    return unwrap(content, str(path))


def read_tensors(path: Path, wanted: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Name -> tensor on the CPU from a .safetensors file, as it was written. wanted: names that
    must be there, and how many axes they have.

    Raises ReidpipeError for a file that is damaged, other than what was recorded of it, or of other
    tensors.
    """
    checked(path)
    try:
        found = load_file(path)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    for name, axes in (wanted or {}).items():
        if name not in found or found[name].ndim != axes:
            what = f"'{name}' of {found[name].ndim} axes" if name in found else f"no '{name}'"
            raise DamagedFile(
                f"found {what} in {path}; expected {axes} axes; type reidpipe cache verify --repair"
            )
    return found


class _Unreadable(Exception):
    """A file that torch cannot read."""


def _loaded(path: Path | str, device: torch.device | str) -> Any:
    """What torch reads of a file with ``weights_only``. Raises _Unreadable for a damaged one, of
    which torch makes nearly every kind of error, and lets a disk's own errors pass.
    """
    try:
        with warnings.catch_warnings():
            # Of pickle protocols it may not know: what it cannot read is an error.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location=device, weights_only=True)
        if any(not _is_dense(value) for value in _tensors(content)):
            raise TypeError("a tensor that is sparse, quantised, nested or without numbers")
        return content
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and not tells_of_content(error):
            raise
        raise _Unreadable(_first_line(error)) from error
    except Exception as error:
        raise _Unreadable(_first_line(error)) from error


def _tensors(content: Any) -> Iterator[Tensor]:
    """All in mappings and lists, each of which is looked at once: a file can hold itself."""
    left, seen = [content], set()
    while left:
        value = left.pop()
        if torch.is_tensor(value):
            yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value.values() if isinstance(value, Mapping) else value)


def _is_dense(value: Tensor) -> bool:
    strange = value.is_meta or getattr(value, "is_quantized", False) or value.is_nested
    return value.layout == torch.strided and not strange


def _numpy_scalars() -> list[Any]:
    scalar = np.array(1.0)[()].__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "b1")]
    names = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


def _unreadable(path: Path, error: Exception) -> ReidpipeError:
    return ReidpipeError(
        f"found a file that is not plain weights ({path}: {_first_line(error)}); expected tensors "
        "only (.safetensors, or .pt/.pth readable with weights_only); save its state_dict() alone"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch puts the refused object into a later line of a long explanation.
    named = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (named or lines or [type(error).__name__])[0][:160]


def unwrap(content: Any, source: str = "state dict") -> dict[str, Tensor]:
    """The tensors inside ``content``: known wrappers opened, then prefixes that all keys share
    (``module.``) stripped. Values that are not tensors are dropped.

    Raises ReidpipeError when there is no tensor.
    """
    for _ in range(DEEPEST):  # a file can hold itself
        if not isinstance(content, Mapping):
            break
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise ReidpipeError(
            f"found no tensors in {source}; expected a state dict (name -> tensor), bare or under "
            f"{', '.join(WRAPPERS)}; type the path of a weights file"
        )
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
                stripped = True
    return tensors


def shape_of(state: Mapping[str, Tensor], key: str, source: str, axes: int) -> tuple[int, ...]:
    """Shape of an entry from which a network's sizes are read. Raises ReidpipeError for one that is
    absent, has another number of axes, or no element.
    """
    if key not in state:
        raise ReidpipeError(
            f"found no key '{key}' in {source}; expected a file of this format; "
            "give the file that belongs to it or another format"
        )
    shape = tuple(state[key].shape)
    if len(shape) != axes or not all(shape):
        raise ReidpipeError(
            f"found '{key}' of shape {shape} in {source}; expected {axes} axes, none of them "
            "empty; give a file that is whole"
        )
    return shape


def extent_of(state: Mapping[str, Tensor], key: str, axis: int, default: int) -> int:
    """Length of an entry's axis; ``default`` where it tells none, which ``load_strict`` then says
    with the entry's name.
    """
    shape = tuple(state[key].shape) if key in state else ()
    return (shape[axis] if axis < len(shape) else 0) or default


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    optional: Iterable[str] = (),
    source: str = "state dict",
) -> None:
    """Copy ``state`` into ``module``; every key must be there, with its shape, and no other.

    Key patterns in ``optional`` and batch-norm counters may be missing (the module keeps its
    value) or unknown (ignored); index and token buffers (``REBUILT``) are always the module's own.
    Raises ReidpipeError naming the first missing key, the first unknown key and the first wrong
    shape; the module is then unchanged.
    """
    rebuilt = REBUILT
    free = (*OPTIONAL, *optional)
    own = {key: value for key, value in module.state_dict().items() if not _any(key, rebuilt)}
    given = {key: value for key, value in state.items() if not _any(key, rebuilt)}
    missing = [key for key in own if key not in given and not _any(key, free)]
    unknown = [key for key in given if key not in own and not _any(key, free)]
    shapes = [
        f"'{key}' {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing keys, first '{missing[0]}'")
    if unknown:
        faults.append(f"{len(unknown)} unknown keys, first '{unknown[0]}'")
    if shapes:
        faults.append(f"{len(shapes)} wrong shapes, first {shapes[0]}")
    if faults:
        raise ReidpipeError(
            f"found weights of another network in {source}: {', '.join(faults)}; expected the "
            f"{len(own)} entries of {type(module).__name__}; give the file that belongs to it"
        )
    module.load_state_dict({key: given[key] for key in own if key in given}, strict=False)


def _any(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
