"""Learning-rate factors against values worked out by hand from the published formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_train.engine.optimiser import Optimiser
from reid_train.engine.schedules import Constant, Cosine, OneCycle, WarmupMultistep


def test_constant():
    assert Constant()(3, 2, 10, 5) == 1.0


def test_clip_reid_warm_up_and_milestones():
    # factor = wf (1 - e/10) + e/10 below 10, a tenth from each milestone on; epochs count from 1
    schedule = WarmupMultistep(milestones=(30, 50), warmup_epochs=10, warmup_factor=0.1)
    factor = [schedule(epoch, 0, 100, 60) for epoch in range(60)]
    assert factor[0] == pytest.approx(0.1 * 0.9 + 0.1)
    assert factor[8] == pytest.approx(0.1 * 0.1 + 0.9)
    assert factor[9] == 1.0
    assert factor[28] == 1.0
    assert factor[29] == pytest.approx(0.1)
    assert factor[48] == pytest.approx(0.1)
    assert factor[49] == pytest.approx(0.01)
    assert schedule(29, 99, 100, 60) == factor[29], "constant within an epoch"


def test_counting_epochs_from_zero_is_pcl_clip():
    schedule = WarmupMultistep(milestones=(30,), warmup_epochs=10, warmup_factor=0.1, first_epoch=0)
    assert schedule(0, 0, 1, 60) == pytest.approx(0.1)
    assert schedule(29, 0, 1, 60) == 1.0


def test_cosine_with_warm_up_is_entered_midway():
    # CLIP-ReID stage 1: 3.5e-4, floor 1e-6, warm-up 5 epochs from 1e-5, 60 epochs, from epoch 1
    schedule = Cosine(
        final_factor=1e-6 / 3.5e-4, warmup_epochs=5, warmup_factor=1e-5 / 3.5e-4, first_epoch=1
    )
    rate = [3.5e-4 * schedule(epoch, 0, 10, 60) for epoch in range(60)]
    assert rate[0] == pytest.approx(1e-5 + (3.5e-4 - 1e-5) / 5)
    assert rate[4] == pytest.approx(1e-6 + 0.5 * (3.5e-4 - 1e-6) * (1 + 0.9659258262890683))
    assert rate[29] == pytest.approx((3.5e-4 + 1e-6) / 2)
    assert rate[59] == pytest.approx(1e-6)


def test_cosine_per_step_moves_within_the_epoch():
    schedule = Cosine(per="step")
    assert schedule(0, 5, 10, 1) == pytest.approx(0.5)


def test_one_cycle_is_torchs_rate():
    steps, epochs = 5, 4
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=20, div_factor=25, final_div_factor=400
    )
    ours = OneCycle(final_division=1e4)
    for number in range(20):
        # torch ends its rise on a step of its own, 0.3 * 20 - 1 of 19
        expected = optimiser.param_groups[0]["lr"]
        at = OneCycle(rise=5 / 19, final_division=1e4)(number // steps, number % steps, steps, 4)
        assert at == pytest.approx(expected)
        optimiser.step()
        theirs.step()
    assert ours(epochs - 1, steps - 1, steps, epochs) == pytest.approx(1e-4)
    assert ours(0, 0, steps, epochs) == pytest.approx(1 / 25)


def test_groups_of_the_optimiser():
    layers = nn.ModuleDict({"in": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
    named = {name: (parameter, 1.0) for name, parameter in layers.named_parameters()}
    named["in.weight"] = (named["in.weight"][0], 0.1)
    spec = Optimiser("adamw", lr=1.0, weight_decay=0.5, bias_lr=2.0, bias_weight_decay=0.25)
    rules = {}
    for group in spec.build(named).param_groups:
        for member in group["params"]:
            name = next(n for n, (p, _) in named.items() if p is member)
            rules[name] = (group["base_lr"], group["weight_decay"])
    assert rules == {
        "in.weight": (0.1, 0.5),
        "in.bias": (2.0, 0.25),
        "norm.weight": (1.0, 0.5),
        "norm.bias": (2.0, 0.25),
    }


def test_weight_decay_can_spare_vectors_and_patterns():
    layers = nn.ModuleDict({"in": nn.Linear(2, 3), "out": nn.Linear(3, 1, bias=False)})
    named = {name: (parameter, 1.0) for name, parameter in layers.named_parameters()}
    spec = Optimiser("sgd", lr=1.0, weight_decay=0.5, decay_matrices_only=True, no_decay=("out.*",))
    decays = {id(p): g["weight_decay"] for g in spec.build(named).param_groups for p in g["params"]}
    assert [decays[id(p)] for p, _ in named.values()] == [0.5, 0.0, 0.0]
