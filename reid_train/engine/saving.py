"""The training state, written while training goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch

from reid_train.engine.runtime import Runtime

log = logging.getLogger(__name__)


class Saving:
    """Writes one state after the other by a thread of its own.

    ``begin`` copies what it is given, so that training may change it at once, and returns; one
    state is written at a time, so it waits for the one before. What goes wrong in the thread is
    raised by the next ``begin`` or ``wait``. Beside training that takes the memory of one state, on
    the CPU.
    """

    def __init__(self, runtime: Runtime, write: Callable[[Mapping[str, Any]], None]) -> None:
        """write: of one state; called in the thread."""
        self.runtime, self.write = runtime, write
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def begin(self, state: Mapping[str, Any]) -> None:
        """Write ``state``: tensors, and plain values in dictionaries, lists and tuples."""
        self.wait()
        copy = apart(state, self.runtime)
        # No daemon: a program that ends waits for it.
        self.thread = threading.Thread(target=self._work, args=(copy,), name="state")
        self.thread.start()

    def wait(self) -> None:
        """Until what was begun is on the disk. Raises what went wrong, once."""
        self._join()
        error, self.error = self.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """``wait`` for who has an error of its own to raise: another one is told as a warning."""
        self._join()
        if self.error is not None:
            log.warning("the training state was not written: %s", self.error)

    def _join(self) -> None:
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def _work(self, state: Mapping[str, Any]) -> None:
        try:
            self.write(state)
        except BaseException as error:  # handed to who waits, who raises it
            self.error = error


def apart(state: Any, runtime: Runtime) -> Any:
    """``state`` with all tensors copied to the CPU; those that are one stay one."""
    found: dict[tuple, torch.Tensor] = {}
    whole = _mapped(state, lambda tensor: found.setdefault(_place(tensor), tensor))
    copies = dict(zip(found, runtime.copied(list(found.values())), strict=True))
    return _mapped(whole, lambda tensor: copies[_place(tensor)])


def _place(tensor: torch.Tensor) -> tuple:
    # By what torch.save, too, takes tensors for one: a device need not tell where its memory is.
    memory = tensor.untyped_storage()._cdata, tensor.storage_offset()
    return *memory, tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if torch.is_tensor(value):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_mapped(item, change) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value
