"""The loop on a toy task: what it optimises, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.watching import Watching
from reid_train.engine import units
from reid_train.engine.checkpoint import load_state
from reid_train.engine.log import LOG
from reid_train.engine.loop import NAN_BATCH, STATE, train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime
from reid_train.engine.schedules import Cosine
from tests.reid_train.toy import Centre, Toy, ToyBatches, gradient, plain_stage, toy_stages

RUNTIME = Runtime.create("cpu")


def lines(folder, event):
    found = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line for line in found if line["event"] == event]


def untimed(line):
    return {key: value for key, value in line.items() if key not in ("seconds", "images_per_s")}


def test_loss_falls_and_every_step_and_epoch_is_logged(tmp_path):
    task = Toy()
    stage = plain_stage(epochs=20, optimiser=Optimiser("adam", lr=0.05))
    result = train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    epochs, steps = lines(tmp_path, "epoch"), lines(tmp_path, "step")
    assert epochs[-1]["error"] < 0.85 * epochs[0]["error"]
    assert (len(epochs), len(steps)) == (20, 120)
    assert result.figures == {
        k: epochs[-1][k] for k in ("loss", "error", "spread", "gradient", "bias")
    }
    assert (result.epochs, result.steps, result.images) == (20, 120, 20 * 6 * 16)
    last = [step["loss"] for step in steps if step["epoch"] == 19]
    assert epochs[-1]["loss"] == pytest.approx(sum(last) / 6)
    assert steps[0]["loss"] == pytest.approx(steps[0]["error"] + steps[0]["spread"])


def test_one_step_of_sgd_is_the_hand_computed_one(tmp_path):
    task, reference = Toy(), Toy()
    stage = plain_stage(
        epochs=1,
        batches=ToyBatches(steps=1),
        optimiser=Optimiser("sgd", lr=0.1, momentum=0.0, weight_decay=0.01, bias_lr=2.0),
    )
    train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    batch = next(ToyBatches(steps=1).epoch(0, 0, 1))
    reference.loss(batch).backward()
    norm = torch.cat([gradient(p).flatten() for p in reference.parameters()]).norm().item()
    assert lines(tmp_path, "step")[0]["gradient"] == pytest.approx(norm)
    for (name, new), old in zip(task.named_parameters(), reference.parameters(), strict=True):
        lr = 0.2 if name.endswith("bias") else 0.1
        torch.testing.assert_close(new, old - lr * (gradient(old) + 0.01 * old))


def test_accumulated_batches_count_as_one_step_with_their_mean_gradient(tmp_path):
    task, reference = Toy(), Toy()
    sgd = Optimiser("sgd", lr=0.1, momentum=0.0)
    stage = plain_stage(epochs=1, batches=ToyBatches(steps=3), optimiser=sgd, accumulate=2)
    train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    norms = [line["gradient"] for line in lines(tmp_path, "step")]
    assert norms[0] == 0 and lines(tmp_path, "epoch")[0]["gradient"] == pytest.approx(
        (norms[1] + norms[2]) / 2
    )
    batches = list(ToyBatches(steps=3).epoch(0, 0, 1))
    for group in (batches[:2], batches[2:]):  # the last group is shorter
        loss = torch.stack([reference.loss(batch) for batch in group]).mean()
        grads = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(reference.parameters(), grads, strict=True):
                parameter -= 0.1 * grad
    for new, old in zip(task.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(new, old)


def test_clipping_bounds_the_step(tmp_path):
    task, before = Toy(), Toy()
    sgd = Optimiser("sgd", lr=1.0, momentum=0.0)
    stage = plain_stage(epochs=1, batches=ToyBatches(steps=1), optimiser=sgd, clip=1e-3)
    train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(task.parameters(), before.parameters(), strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_average_of_weights_replaces_them_at_the_end(tmp_path):
    sgd = Optimiser("sgd", lr=0.1, momentum=0.0)
    raw = []
    for steps in (1, 2):
        task = Toy()
        stage = plain_stage(epochs=1, batches=ToyBatches(steps=steps), optimiser=sgd)
        train(task, [stage], runtime=RUNTIME, folder=tmp_path / f"{steps}")
        raw.append(task.head.weight.detach())
    averaged = Toy()
    stage = plain_stage(epochs=1, batches=ToyBatches(steps=2), optimiser=sgd, ema=0.75)
    train(averaged, [stage], runtime=RUNTIME, folder=tmp_path / "ema")
    expected = 0.75 * (0.75 * Toy().head.weight + 0.25 * raw[0]) + 0.25 * raw[1]
    torch.testing.assert_close(averaged.head.weight.detach(), expected.detach())


def test_only_matching_names_train_and_multipliers_scale_the_rate(tmp_path):
    task, before = Toy(), Toy()
    stage = plain_stage(
        epochs=1,
        optimiser=Optimiser("sgd", lr=0.1, momentum=0.0),
        batches=ToyBatches(steps=1),
        trains=(("*", 0.0), ("head.*", 1.0), ("head.bias", 0.5)),
    )
    train(task, [stage], runtime=RUNTIME, folder=tmp_path)
    assert torch.equal(task.body[0].weight, before.body[0].weight)
    before.loss(next(ToyBatches(steps=1).epoch(0, 0, 1))).backward()
    torch.testing.assert_close(
        task.head.weight, before.head.weight - 0.1 * gradient(before.head.weight)
    )
    torch.testing.assert_close(task.head.bias, before.head.bias - 0.05 * gradient(before.head.bias))
    assert all(p.requires_grad for p in task.parameters()), "freezing ends with the stage"


def test_what_the_model_froze_itself_never_trains(tmp_path):
    task = Toy(norm=True)
    task.norm.bias.requires_grad_(False)
    train(task, [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    assert torch.equal(task.norm.bias, torch.zeros(8))
    assert not task.norm.bias.requires_grad


@pytest.mark.parametrize("trains", [(("heda.*", 1.0),), (("*", 0.0),)])
def test_patterns_that_train_nothing_are_refused(tmp_path, trains):
    with pytest.raises(ReidpipeError, match="stage 'plain'"):
        train(Toy(), [plain_stage(trains=trains)], runtime=RUNTIME, folder=tmp_path)


def test_rates_in_the_log_follow_the_schedule(tmp_path):
    stage = plain_stage(epochs=4, schedule=Cosine())
    train(Toy(), [stage], runtime=RUNTIME, folder=tmp_path)
    rates = [step["lr"] for step in lines(tmp_path, "step")]
    expected = [0.01 * 0.5 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(6)])


class Broken(ToyBatches):
    """Batch 4 of epoch 1 holds a value that is not finite, or the source stops there."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def epoch(self, epoch, rank, world):
        for step, batch in enumerate(super().epoch(epoch, rank, world)):
            if (epoch, step) == (1, 4):
                if self.fault == "raise":
                    raise KeyboardInterrupt
                if self.fault == "short":
                    return
                batch["x"][3, 2] = float(self.fault)
            yield batch


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path, value):
    stage = plain_stage(batches=Broken(value), epochs=3)
    with pytest.raises(ReidpipeError, match=r"epoch 1, step 4.*nan-batch\.pt") as error:
        train(Toy(), [stage], runtime=RUNTIME, folder=tmp_path, save_every=1)
    assert "\n" not in str(error.value)
    saved = load_state(tmp_path / NAN_BATCH)
    assert not torch.isfinite(saved["batch"]["x"][3, 2])
    assert (saved["epoch"], saved["step"]) == (1, 4)
    # What is kept to continue from was written before.
    state = load_state(tmp_path / STATE)
    assert all(torch.isfinite(value).all() for value in state["task"].values())


def test_a_source_shorter_than_its_length_is_a_bug_and_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="gave 4 batches; its length is 6"):
        train(Toy(), [plain_stage(batches=Broken("short"))], runtime=RUNTIME, folder=tmp_path)


class Interrupt(Centre):
    """Stands in for a kill: raises at the beginning of an epoch."""

    def __init__(self, epoch: int | None) -> None:
        super().__init__()
        self.epoch = epoch

    def begin_epoch(self, task, epoch):
        if epoch == self.epoch:
            raise KeyboardInterrupt
        super().begin_epoch(task, epoch)


def test_interrupted_at_an_epoch_equals_uninterrupted_in_weights_and_log(tmp_path):
    def run(folder, interrupt):
        task = Toy(dropout=0.5, norm=True)
        stages = toy_stages()
        stages[1].hooks = [Interrupt(interrupt)]
        train(task, stages, runtime=RUNTIME, folder=tmp_path / folder, seed=3)
        return task.state_dict()

    whole = run("whole", None)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run("parts", epoch)
    resumed = run("parts", None)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for event in ("step", "epoch"):
        assert [untimed(x) for x in lines(tmp_path / "whole", event)] == [
            untimed(x) for x in lines(tmp_path / "parts", event)
        ]


@pytest.mark.parametrize("save_every", [1, 2, 4])
def test_interrupted_inside_an_epoch_equals_uninterrupted(tmp_path, save_every):
    def run(folder, batches):
        task = Toy(dropout=0.5, norm=True)
        stage = plain_stage(batches=batches, epochs=3, accumulate=2)
        train(task, [stage], runtime=RUNTIME, folder=tmp_path / folder, save_every=save_every)
        return task.state_dict()

    whole = run("whole", ToyBatches())
    with pytest.raises(KeyboardInterrupt):
        run("parts", Broken("raise"))
    state = load_state(tmp_path / "parts" / STATE)
    assert (state["epoch"], state["step"]) == (1, 4)
    resumed = run("parts", ToyBatches())
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    log = (tmp_path / LOG).read_bytes()
    again = train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    assert again == first
    assert (tmp_path / LOG).read_bytes() == log


def test_the_state_of_another_run_is_refused(tmp_path):
    train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    with pytest.raises(ReidpipeError, match="state of another run.*rm "):
        train(Toy(), [plain_stage(epochs=3)], runtime=RUNTIME, folder=tmp_path)
    with pytest.raises(ReidpipeError, match="state of another run"):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path, seed=1)


def test_a_damaged_state_is_named(tmp_path):
    train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ReidpipeError, match="cannot be read.*rm "):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)


def test_torchs_own_generator_is_left_as_it_was(tmp_path):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    train(Toy(dropout=0.5), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_dropout_depends_on_the_seed_alone(tmp_path):
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        task = Toy(dropout=0.5)
        torch.manual_seed(number)
        folder = tmp_path / str(number)
        train(task, [plain_stage()], runtime=RUNTIME, folder=folder, seed=seed)
        weights.append(task.head.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_train_to_about_the_same(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(units, "has_units", lambda _: True)  # also where they are emulated
    results = {}
    for name in ("fp32", precision):
        runtime = Runtime.create("cpu", name)
        task = Toy()
        result = train(task, [plain_stage(epochs=10)], runtime=runtime, folder=tmp_path / name)
        results[name] = result.figures["loss"]
        assert all(p.dtype == torch.float32 for p in task.parameters())
    assert results[precision] == pytest.approx(results["fp32"], rel=0.05)


def test_what_began_in_fp32_for_want_of_units_goes_on_in_fp16(tmp_path, monkeypatch):
    """Nothing was scaled there, so its state holds no scale."""
    for precision, epoch in (("fp32", 1), ("fp16", None)):
        monkeypatch.setattr(units, "has_units", lambda _: True)
        stage = plain_stage(epochs=2, hooks=[Interrupt(epoch)])
        runtime = Runtime.create("cpu", precision)
        with pytest.raises(KeyboardInterrupt) if epoch else nullcontext():
            train(Toy(), [stage], runtime=runtime, folder=tmp_path)
    assert {"skipped"} <= lines(tmp_path, "epoch")[-1].keys()


class Steep(Toy):
    """Gradients that fp16 cannot hold once its scaler has made them 65,536 times larger."""

    def training_forward(self, batch):
        losses, report = super().training_forward(batch)
        return {name: 300 * loss for name, loss in losses.items()}, report


def test_a_step_that_overflows_in_fp16_is_skipped_and_counted(tmp_path, monkeypatch, capsys):
    """What is logged and recorded of it are numbers: a model with others could not be read."""
    monkeypatch.setattr(units, "has_units", lambda _: True)
    runtime = Runtime.create("cpu", "fp16")
    result = train(
        Steep(), [plain_stage(epochs=3)], runtime=runtime, folder=tmp_path, watching=Watching()
    )
    steps = lines(tmp_path, "step")
    skipped = [step["skipped"] for step in steps]
    assert skipped[0] == 1 and skipped[-1] == 0 and set(skipped) == {0, 1}
    assert all((step["gradient"] == 0) == bool(step["skipped"]) for step in steps)
    first, *_, last = lines(tmp_path, "epoch")
    assert first["skipped"] == pytest.approx(sum(skipped[:6]) / 6)
    assert result.figures["skipped"] == last["skipped"] == 0
    assert all(math.isfinite(value) for value in result.figures.values())
    told = [line for line in capsys.readouterr().err.splitlines() if "epoch 1/3" in line]
    assert f"{first['skipped']:.0%} of the steps skipped" in told[0]
