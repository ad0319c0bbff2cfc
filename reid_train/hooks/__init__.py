"""Work before every epoch that a recipe may name.

``HOOKS[name](batches=, runtime=, **options)`` is a hook of the training loop.
"""

from __future__ import annotations

from collections.abc import Callable

from reid_train.engine.task import Hook
from reid_train.hooks.cluster import ClusterHook
from reid_train.hooks.memory import MemoryHook

HOOKS: dict[str, Callable[..., Hook]] = {
    "cluster": ClusterHook,
    "memory": MemoryHook,
}
