"""Packed pixels, index rows and label maps to batches.

``SAMPLERS[kind](labels, *, seed, **options)`` says which images make a batch
(``reid_train.data.sampler.Sampler``); the options are the other fields of a stage's ``data``.
"""

from __future__ import annotations

from pipeline.plugins import Door

SAMPLERS = Door(
    "sampler",
    {
        "identity-batches": "reid_train.data.sampler:identity_batches",
        "shuffled": "reid_train.data.sampler:shuffled",
    },
)
