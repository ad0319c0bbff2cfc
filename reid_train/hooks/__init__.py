"""Work before every epoch that a recipe may name.

``HOOKS[name](batches=, runtime=, **options)`` is a hook of the training loop
(``reid_train.engine.task.Hook``).
"""

from __future__ import annotations

from pipeline.plugins import Door

HOOKS = Door(
    "hook",
    {
        "cluster": "reid_train.hooks.cluster:ClusterHook",
        "memory": "reid_train.hooks.memory:MemoryHook",
    },
)
