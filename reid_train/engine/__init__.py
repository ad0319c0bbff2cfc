"""How anything trains: the task interface, the one loop, devices, checkpoints. Knows no method.

``SCHEDULES[kind](**options)`` is a factor on the learning rates
(``reid_train.engine.schedules.Schedule``).
"""

from __future__ import annotations

from pipeline.plugins import Door

SCHEDULES = Door(
    "schedule",
    {
        "constant": "reid_train.engine.schedules:Constant",
        "warmup-multistep": "reid_train.engine.schedules:WarmupMultistep",
        "cosine": "reid_train.engine.schedules:Cosine",
        "one-cycle": "reid_train.engine.schedules:OneCycle",
    },
)
