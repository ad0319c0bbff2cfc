"""How large everything is: as published, or so small that a CPU rehearses all of it in seconds.

Nothing else sets a rehearsal apart from a measurement but the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """People: identities, images of each, cameras of the training set. warmup, steps: training
    steps before and in a measurement. vit, rn50, resnet50: settings of recipes by their trunk.
    batch: of a stage on images, ids and images of each. prompts: images of stage 1. parsed: images
    whose maps are made; parsing_batch: together. network_batch: of a network alone. parsers: what
    makes a network small, and its input. retrieval: queries, gallery, dimensions; reranked: how
    many of the queries are ranked anew. embedded: images whose features are taken. product, mib,
    least: of ``device.machine`` and of other repeated work. batches: of the source of batches.
    profiled: steps in a trace. compiler: backend of torch.compile; the one of a rehearsal traces
    forward and backward alike and leaves out the compiler, which takes minutes on a CPU. tests:
    files of the GPU's tests (none: all that have some).
    """

    identities: int = 256
    shots: int = 4
    cameras: int = 15
    warmup: int = 12
    steps: int = 60
    vit: Mapping[str, str] = field(default_factory=dict)
    rn50: Mapping[str, str] = field(default_factory=dict)
    resnet50: Mapping[str, str] = field(default_factory=dict)
    batch: tuple[int, int] = (16, 4)
    prompts: int = 64 * 90
    parsed: int = 1024
    parsing_batch: int = 32
    network_batch: int = 64
    parsers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retrieval: tuple[int, int, int] = (11_659, 82_161, 1280)
    reranked: int = 1000
    embedded: int = 2048
    product: int = 8192
    mib: int = 1024
    least: float = 1.0
    batches: int = 400
    profiled: int = 8
    compiler: str = "inductor"
    tests: tuple[str, ...] = ()


FULL = Sizes()

_TEXT = {
    "model.text.options.width": "32",
    "model.text.options.layers": "2",
    "model.text.options.heads": "2",
    "model.text.options.output_dim": "16",
}
_VIT = {
    "model.options.width": "32",
    "model.options.layers": "2",
    "model.options.heads": "2",
    "model.options.output_dim": "16",
    **_TEXT,
}
_RN50 = {
    "model.options.width": "8",
    "model.options.layers": "[1, 1, 1, 1]",
    "model.options.heads": "4",
    "model.options.output_dim": "16",
    **_TEXT,
}
_INPUT = {"input.size": "[64, 32]"}
REHEARSAL = Sizes(
    identities=8,
    shots=4,
    cameras=3,
    warmup=1,
    steps=2,
    vit={**_VIT, **_INPUT},
    rn50={**_RN50, **_INPUT},
    batch=(2, 4),
    prompts=32,
    parsed=6,
    parsing_batch=4,
    network_batch=2,
    parsers={
        "schp": {"small": True, "input_size": (64, 32)},
        "solider": {"small": True, "input_size": (64, 32)},
        "invpt": {"small": True},
    },
    retrieval=(20, 120, 16),
    reranked=20,
    embedded=8,
    product=64,
    mib=1,
    least=0.01,
    batches=3,
    profiled=2,
    compiler="aot_eager",
    tests=("tests/test_gpu.py",),
    resnet50={"model.options.layers": "[1, 1, 1, 1]"},
)


def small_settings(sizes: Sizes, recipe: str) -> Mapping[str, str]:
    """Settings that make the networks of a recipe as small as ``sizes`` says; none at full size."""
    if recipe.startswith("resnet50"):
        return sizes.resnet50
    return sizes.rn50 if "rn50" in recipe else sizes.vit
