"""What is measured, in order of worth: what a run that is cut has come to is worth most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.golden import shared_folder

STEPS, WAITS = "benchmarks.gpu.steps", "benchmarks.gpu.waits"
PARSING, RETRIEVAL = "benchmarks.gpu.parsing", "benchmarks.gpu.retrieval"
TRAJECTORY, FIRST = "trajectory_", "clipreid_vit_stage2"
# What the processes of measurements are forked from has imported it all.
MODULES = (
    STEPS, WAITS, PARSING, RETRIEVAL, "benchmarks.gpu.batches", "benchmarks.gpu.checks",
    "benchmarks.gpu.drift", "reid_train.models.clip.trunks", "reid_train.models.clip.text",
    "reid_train.models.prompts", "parsing_models.parsers.schp", "parsing_models.parsers.solider",
    "parsing_models.parsers.invpt", "timm", "torch._dynamo",
)  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """work: ``module:function``, called with a ``Given`` and ``options``; gives JSON-plain values.
    limit: seconds it may take.
    """

    name: str
    work: str
    limit: float
    options: Mapping[str, Any] = field(default_factory=dict)


def _step(name: str, recipe: str, precision: str, limit: float = 30, **options: Any) -> Measurement:
    given = {"recipe": recipe, "precision": precision, **options}
    return Measurement(name, f"{STEPS}:of_images", limit, given)


def _prompts(name: str, recipe: str, precision: str, stage: int = 0) -> Measurement:
    given = {"recipe": recipe, "precision": precision, "stage": stage}
    return Measurement(name, f"{STEPS}:of_prompts", 30, given)


def _extra(name: str, recipe: str, base: str, precision: str = "bf16") -> Measurement:
    given = {"recipe": recipe, "base": base, "precision": precision}
    return Measurement(name, f"{STEPS}:beside", 45, given)


def _maps(kind: str, precision: str, limit: float) -> Measurement:
    given = {"kind": kind, "precision": precision}
    return Measurement(f"maps-{kind}-{precision}", f"{PARSING}:of", limit, given)


def _embedding(precision: str) -> Measurement:
    given = {"recipe": "clip-reid-vit", "precision": precision}
    return Measurement(f"features-vit-{precision}", f"{RETRIEVAL}:embedding", 30, given)


def recorded() -> list[str]:
    """Names of the trajectories that are there, those of CLIP-ReID first."""
    files = (shared_folder() / "golden").glob(f"{TRAJECTORY}*.npz")
    found = [path.stem.removeprefix(TRAJECTORY) for path in files]
    return sorted(found, key=lambda name: (not name.startswith("clip"), name != FIRST, name))


def order(trajectories: list[str]) -> list[Measurement]:
    """All of them. trajectories: recorded ones that are there; without any, one measurement says
    so.
    """
    vit, rn50, olp = "clip-reid-vit", "clip-reid-rn50", "clip-reid-vit-sie-olp"
    drifts = [
        Measurement(f"drift-{name}", "benchmarks.gpu.drift:along", 75, {"name": name})
        for name in trajectories or [FIRST]
    ]
    return [
        # Waits for what the processes are forked from, which imports meanwhile.
        Measurement("machine", "benchmarks.gpu.device:machine", 60),
        Measurement("tests", "benchmarks.gpu.checks:of", 110),
        _step("stage2-vit-bf16", vit, "bf16"),
        _maps("schp", "bf16", 60),
        Measurement(
            "waits-vit-bf16", f"{WAITS}:of_images", 40, {"recipe": vit, "precision": "bf16"}
        ),
        Measurement("batches", "benchmarks.gpu.batches:of", 30, {"recipe": vit}),
        _step("stage2-rn50-bf16", rn50, "bf16"),
        *drifts[:1],
        _prompts("stage1-vit-bf16", vit, "bf16"),
        _step("stage2-vit-fp16", vit, "fp16"),
        _step("stage2-vit-bf16-compiled", vit, "bf16", 90, compiled=True),
        _step("stage2-olp-bf16", olp, "bf16"),
        _extra("pi-vl-vit-bf16", "pi-vl-vit", olp),
        _extra("pi-vl-rn50-bf16", "pi-vl-rn50", rn50),
        _embedding("fp32"),
        *drifts[1:4],
        _maps("schp", "fp32", 60),
        _maps("solider", "bf16", 45),
        _maps("invpt", "bf16", 80),
        Measurement("evaluation", f"{RETRIEVAL}:evaluation", 60),
        Measurement("batches-maps", "benchmarks.gpu.batches:of", 30, {"recipe": "pi-vl-vit"}),
        _step("stage2-rn50-fp16", rn50, "fp16"),
        _prompts("stage1-rn50-bf16", rn50, "bf16"),
        _prompts("stage1-vit-fp16", vit, "fp16"),
        _prompts("parts-vit-bf16", "pi-vl-vit", "bf16", stage=1),
        _step("stage2-olp-fp16", olp, "fp16"),
        Measurement("reranking", f"{RETRIEVAL}:reranking", 90),
        *drifts[4:],
        _embedding("bf16"),
        _prompts("stage1-rn50-fp16", rn50, "fp16"),
    ]  # fmt: skip
