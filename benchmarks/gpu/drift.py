"""How far a training in bf16 or fp16 goes from its authors' in float64, along what was recorded of
it: the golden trajectories (their README says how they were made).
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import plain_float32
from benchmarks.gpu.given import Given, Skipped
from benchmarks.gpu.order import TRAJECTORY
from benchmarks.gpu.sizes import small_settings
from reid_train.recipe.loading import load_recipe
from tests.golden import fill_module, shared_folder
from tests.reid_train.recipe.trajectories import (
    PROMPTS,
    RECIPES,
    Trajectory,
    follow,
    follow_prompts,
)

# float32 as it is; as torch has it, whose convolutions take TF32 on a GPU; the two halves.
WAYS = ("fp32", "tf32", "bf16", "fp16")


def along(given: Given, name: str) -> dict[str, Any]:
    """Of each precision, step by step: the loss beside the recorded one, relative, and how far the
    parameters' changes are from the recorded ones in length, relative: the median over the tensors
    and the largest; steps in which nothing moved (fp16's scaler skips those that overflow).
    """
    if name not in (*PROMPTS, *RECIPES):
        raise Skipped(f"no recipe is known for the recorded trajectory {name}")
    small = _small(given, name)
    theirs, fill = _made_up(given, name, small) if small else _recorded(name)
    fill = Remembered(fill)
    found = {way: difference(run(given, name, way, fill, small), theirs) for way in WAYS}
    return {"trajectory": name, "drift": found}


def _recorded(name: str) -> tuple[Mapping[str, np.ndarray], Any]:
    golden = shared_folder() / "golden"
    path = golden / f"{TRAJECTORY}{name}.npz"
    if not path.is_file():
        raise Skipped(
            f"no recorded trajectory {name}: set REIDPIPE_SHARED to the folder with golden/"
        )
    with np.load(path) as file:
        return {key: file[key] for key in file.files}, fill_module(golden)


def _small(given: Given, name: str) -> dict[str, str]:
    """Settings that make the networks small, in a rehearsal; the images keep their size."""
    recipe = PROMPTS[name] if name in PROMPTS else RECIPES[name][0]
    text = load_recipe(recipe).model.text is not None
    return {
        key: value
        for key, value in small_settings(given.sizes, recipe).items()
        if key != "input.size" and (text or not key.startswith("model.text."))
    }


class Remembered:
    """Weights and images that are drawn once for all precisions, which takes longer than steps."""

    def __init__(self, source: Any) -> None:
        self.fill, self.image = cache(source.fill), cache(source.image)


class Drawn:
    """In place of the recorded weights and images, for networks that nobody has recorded."""

    def fill(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
        plain = key.endswith(("running_var", "norm.weight", "bn.weight"))
        return np.ones(shape, np.float32) if plain else np.float32(0.05) * values

    def image(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(key.encode())).integers(0, 256, shape, np.uint8)


def _made_up(
    given: Given, name: str, small: Mapping[str, str]
) -> tuple[Mapping[str, np.ndarray], Any]:
    """float64 in the place of a recording."""
    fill = Drawn()
    exact = run(given, name, "fp64", fill, small)
    names = list(exact.norm[-1])
    norms = np.array([[norms[name] for name in names] for norms in exact.norm])
    return {
        "loss": np.array(exact.loss), "param_names": np.array(names), "delta_norm": norms,
    }, fill  # fmt: skip


def run(given: Given, name: str, way: str, fill: Any, sizes: Mapping[str, str]) -> Trajectory:
    """The recorded steps, in one precision."""
    precision = "fp32" if way == "tf32" else way
    with tempfile.TemporaryDirectory(dir=given.folder) as text:
        folder = Path(text)
        if way == "fp32":
            with plain_float32():
                return _followed(given, name, precision, fill, folder, sizes)
        return _followed(given, name, precision, fill, folder, sizes)


def _followed(
    given: Given, name: str, precision: str, fill: Any, folder: Path, sizes: Mapping[str, str]
) -> Trajectory:
    how: dict[str, Any] = {"precision": precision, "device": given.device, "probed": False}
    if name in PROMPTS:
        return follow_prompts(PROMPTS[name], fill, folder, overrides=sizes, **how)
    recipe, settings = RECIPES[name]
    return follow(recipe, {**settings, **sizes}, fill, folder, **how)


def difference(ours: Trajectory, theirs: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """See ``along``."""
    names = [str(name) for name in theirs["param_names"]]
    moving = [place for place in range(len(names)) if theirs["delta_norm"][-1, place] > 0]
    loss, median, largest, still = [], [], [], []
    before: dict[str, float] = {}
    for step, norms in enumerate(ours.norm):
        apart = [
            abs(norms[names[place]] / theirs["delta_norm"][step, place] - 1) for place in moving
        ]
        loss.append(abs(ours.loss[step] / theirs["loss"][step] - 1))
        median.append(float(np.median(apart)))
        largest.append(max(apart))
        still.append(float(norms == before or not any(norms.values())))
        before = norms
    return {"loss": loss, "moved_median": median, "moved_largest": largest, "skipped": still}
