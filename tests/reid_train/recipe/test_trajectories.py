"""The first steps of published recipes are their authors', in float64: losses, learning rates,
weight decays, how far every parameter moves and where to, batch-norm statistics, memories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden import shared_folder
from tests.reid_train.recipe import trajectories
from tests.reid_train.recipe.trajectories import PROMPTS, RECIPES, Trajectory

# Of the first step, and of later ones: a random ReLU network grows the rounding of the processor's
# kernels, to 3e-12 on one without AVX-512 and 2e-11 on an AMD EPYC (Zen 4).
LOSS, LATER, MOVED = 1e-12, 5e-11, 1e-10
# Where a gradient is hardly more than its rounding, Adam's first steps do not tell which way to go.
ALONG = 1e-8
FOUND = sorted(path.stem for path in (shared_folder() / "golden").glob("trajectory_*.npz"))
NONE = [pytest.param("", marks=pytest.mark.skip("recorded trajectories absent"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND or NONE)
def test_a_recipe_takes_its_authors_steps(
    name: str, golden: Callable[[str], dict[str, np.ndarray]], fill: Any, tmp_path: Path
):
    theirs, kind = golden(f"{name}.npz"), name.removeprefix("trajectory_")
    if kind in PROMPTS:
        ours = trajectories.follow_prompts(PROMPTS[kind], fill, tmp_path)
    else:
        recipe, settings = RECIPES[kind]
        ours = trajectories.follow(recipe, settings, fill, tmp_path)
    np.testing.assert_allclose(ours.loss[:1], theirs["loss"][:1], rtol=LOSS)
    np.testing.assert_allclose(ours.loss, theirs["loss"], rtol=LATER)
    _compare(ours, theirs)
    if "cls_ctx_after_s8" in theirs:
        learnt = ours.parameters["prompt_learner.cls_ctx"][:, :, ::8].numpy()
        np.testing.assert_allclose(learnt, theirs["cls_ctx_after_s8"], rtol=0, atol=1e-7)
    if "memory_after_s8" in theirs:
        memories = np.stack([memory[:, ::8].numpy() for memory in ours.memories])
        np.testing.assert_allclose(memories, theirs["memory_after_s8"], rtol=0, atol=1e-7)


def _compare(ours: Trajectory, theirs: dict[str, np.ndarray]) -> None:
    names = [str(name) for name in theirs["param_names"]]
    # Their optimisers also list what never moves.
    moving = [place for place in range(len(names)) if theirs["delta_norm"][-1, place] > 0]
    assert len(moving) > 0
    assert {n for n, norm in ours.norm[-1].items() if norm > 0} == {names[p] for p in moving}
    for step in range(len(theirs["loss"])):
        for place in moving:
            name = names[place]
            assert ours.lr[step][name] == pytest.approx(theirs["lr"][step, place], rel=1e-14)
            assert ours.weight_decay[name] == theirs["weight_decay"][place]
            norm = theirs["delta_norm"][step, place]
            assert ours.norm[step][name] == pytest.approx(norm, rel=MOVED), (step, name)
            dot = theirs["delta_dot"][step, place]
            assert abs(ours.dot[step][name] - dot) < ALONG * norm, (step, name)
    for place, name in enumerate(theirs.get("bn_names", ())):
        value = ours.statistics[str(name)].double().numpy()
        length = theirs["bn_norm"][place]
        assert float(np.linalg.norm(value)) == pytest.approx(length, rel=MOVED), name
        dot = float((value * trajectories.probe(str(name), value.shape)).sum())
        assert abs(dot - theirs["bn_dot"][place]) < MOVED * length, name
