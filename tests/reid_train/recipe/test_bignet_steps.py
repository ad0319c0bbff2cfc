"""BigNet and the SliceNets train as their authors' notebooks do: the first steps of the shipped
recipes in float64 beside the layers, losses and Adam written out. Dropout's masks are ours.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_train.engine.runtime import Runtime
from reid_train.models.dropout import Dropout
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.stages import build_stages, training_set
from tests.reid_train.people import people
from tests.reid_train.plain.clip import cross_entropy
from tests.reid_train.plain.residual import Network
from tests.reid_train.plain.updates import Adam, gradients, leaves
from tests.reid_train.stepping import assert_moved_alike, recorded

MEAN = (0.472614, 0.446827, 0.481052)
STD = (0.276514, 0.274686, 0.276420)
SIZE = (32, 24)  # the least that divides into four strips; published are 128x48
EPOCHS = 2
KEPT = 65536 / (65536 - 26214)  # 1 / (1 - 0.4), in steps of 2**-16


def kept_masks(task: torch.nn.Module, into: list[Tensor]) -> None:
    """What each dropout multiplies its input by, from now on."""

    def keep(module: torch.nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        del module
        torch.testing.assert_close(result[result != 0], given[0][result != 0] * KEPT)
        into.append((result.detach() != 0).double() * KEPT)

    for module in task.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(keep)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bignet-aug", "slicenet1")]


@pytest.mark.parametrize("name", ["bignet", "slicenet2", *SLOW])
def test_the_first_steps(name: str, tmp_path: Path):
    recipe = load_recipe(name, {"input.size": str(list(SIZE))})
    ids, shots = (8, 4) if name == "bignet" else (4, 4)  # 32 images, of which 16 are mirrored
    images, rows, _ = people(tmp_path / "people", ids=ids, images=shots, size=SIZE)
    runtime = Runtime.create("cpu", "fp64")
    data = training_set(recipe, images, rows)
    task = build_task(recipe, classes=ids, seed=1)
    (stage,) = build_stages(recipe, data, seed=0, runtime=runtime)
    assert (stage.epochs, len(stage.batches)) == (250 if "bignet" in name else 200, 2)
    own: list[Tensor] = []
    kept_masks(task, own)
    runtime.place(task)
    before = {n: v.clone() for n, v in [*task.named_parameters(), *task.named_buffers()]}
    found = recorded(task, stage, runtime, tmp_path / "run", epochs=EPOCHS)
    assert len(found.loss) == len(found.batches) == 2 * EPOCHS
    check_seen(found.batches[:2], images.pixels, mirrored=name != "bignet")
    dropped = torch.cat([mask.flatten() for mask in own]) == 0
    assert float(dropped.double().mean()) == pytest.approx(0.4, abs=0.01)

    def plain(given: str) -> str:
        return given.removeprefix("model.trunk.").removeprefix("heads.identity.")

    begun = {plain(n): v for n, v in before.items()}
    learnt = leaves({plain(n): before[n] for n, _ in task.named_parameters()})
    running = {plain(n): v.clone() for n, v in before.items() if "running" in n}
    adam, drawn = Adam(), iter(own)
    for step, batch in enumerate(found.batches):
        network = Network(learnt, running, drawn)
        shift, scale = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
        pixels = (batch["images"].double() / 255 - shift) / scale
        feature = getattr(network, name.removesuffix("-aug"))(pixels)
        classes = learnt["cosine_weights"]
        classes = classes / classes.square().sum(0, keepdim=True).sqrt()
        loss = cross_entropy(learnt["k"] * (feature @ classes), batch["labels"])
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-10)
        learnt = adam(learnt, gradients(loss, learnt), lambda _: (1e-3, 0.0))
        rules = {plain(n): rule for n, rule in found.rules[step].items()}
        assert rules == dict.fromkeys(learnt, (1e-3, 0.0))
        own_state = {plain(n): v for n, v in found.states[step].items()}
        for given, value in {**learnt, **running}.items():
            assert_moved_alike(own_state[given], value.detach(), begun[given], what=given)
    assert next(drawn, None) is None


def check_seen(batches: list[dict[str, Tensor]], pixels: np.ndarray, *, mirrored: bool) -> None:
    """An epoch has every image once, and where the recipe says so its mirror image."""
    seen = Counter(image.numpy().tobytes() for batch in batches for image in batch["images"])
    whole = torch.tensor(pixels).permute(0, 3, 1, 2)
    images = [*whole, *(whole.flip(3) if mirrored else [])]
    assert seen == Counter(image.contiguous().numpy().tobytes() for image in images)


def test_class_vectors_and_scale_begin_as_theirs():
    for name in ("bignet", "bignet-aug", "slicenet1", "slicenet2"):
        head = build_task(load_recipe(name), classes=400, seed=5).heads["identity"]
        begun = {given: value.detach() for given, value in head.named_parameters()}
        assert begun["cosine_weights"].shape == (128, 400) and begun["k"].item() == 1.0
        assert begun["cosine_weights"].std().item() == pytest.approx(1.0, rel=0.02)
