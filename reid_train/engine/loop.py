"""The training loop, the only one: every method and the parsers train here.

Resuming is exact. Learning rates are functions of the position, batches of the source's seed and
the epoch; dropout draws from torch's global generator, which is seeded anew for every step from
(seed, stage, epoch, step, rank). So position, weights and optimiser are all there is to save, and
a run killed between two steps continues to the bit (on CPUs and the same number of threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.artifacts.running import SILENT, Running
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.watching import QUIET, Watching
from reid_train.engine.arithmetic import full, stored
from reid_train.engine.averaging import average, averaged
from reid_train.engine.checkpoint import (
    check_order,
    is_whole_state,
    load_state,
    load_strict,
    save_state,
)
from reid_train.engine.log import Log
from reid_train.engine.reached import EpochEnd, TrainResult
from reid_train.engine.runtime import Runtime, derive_seed
from reid_train.engine.saving import Saving
from reid_train.engine.task import ReidTask, Stage

STATE = "state.pt"
NAN_BATCH = "nan-batch.pt"


def train(
    task: ReidTask,
    stages: Sequence[Stage],
    *,
    runtime: Runtime,
    folder: Path | str,
    seed: int = 0,
    progress: bool = False,
    watching: Watching = QUIET,
    running: Running = SILENT,
    channels_last: bool = False,
    save_every: int | None = None,
    save_seconds: float = 300.0,
    after_epoch: Callable[[EpochEnd], None] | None = None,
) -> TrainResult:
    """Train ``task`` (in place, on ``runtime.device``) through ``stages``.

    ``folder`` gets ``log.jsonl``, ``log.csv`` and ``state.pt``; when a state is there, training
    goes on from it. The state is written at the end of every epoch, every ``save_every`` batches
    and when ``save_seconds`` have passed, while training goes on: what goes wrong in it is raised
    when the next one is due, or at the end. ``watching``: what is told on stderr and to trackers;
    ``progress`` draws a bar there if it is a terminal; ``running`` is told each step.
    ``after_epoch`` is called by the first process, once the state is on the disk, while the others
    wait, and again by a run that goes on where that had begun; whatever it draws at random,
    training draws the same.

    Raises ReidpipeError when a loss or gradient is not finite (its batch is saved as
    ``nan-batch.pt``), when the state belongs to another run, or when a stage's patterns match
    nothing.
    """
    loop = _Loop(task, list(stages), runtime, Path(folder), seed)
    loop.progress, loop.watching, loop.running = progress, watching, running
    loop.channels_last = channels_last
    loop.save_every, loop.save_seconds = save_every, save_seconds
    loop.after_epoch = after_epoch
    with runtime.isolated_randomness():
        return loop.run()


@dataclass
class _Step:
    """A step whose losses may still be on their way from the device."""

    number: int
    lr: float
    names: list[str]  # losses, then "gradient", then what the task reports
    losses: int
    values: Tensor
    images: int  # of all processes
    batch: dict[str, Tensor]


class _Loop:
    progress = False
    watching = QUIET
    running = SILENT
    channels_last = False
    save_every: int | None = None
    save_seconds = 300.0
    after_epoch: Callable[[EpochEnd], None] | None = None

    def __init__(
        self, task: ReidTask, stages: list[Stage], runtime: Runtime, folder: Path, seed: int
    ) -> None:
        self.task, self.stages, self.runtime = task, stages, runtime
        self.folder, self.seed = folder, seed
        self.trainable = [name for name, p in task.named_parameters() if p.requires_grad]
        self.sums: dict[str, float] = {}
        self.images, self.steps, self.seconds = 0, 0, 0.0
        self.pending: _Step | None = None

    def run(self) -> TrainResult:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._read_state()
        self.runtime.place(self.task)
        if self.channels_last:
            self.task.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        first = 0
        if state is not None:
            first = state["stage"]
            self.sums, self.images = state["sums"], state["images"]
            self.steps, self.seconds = state["steps"], state["seconds"]
        self.log = Log(
            self.folder,
            [(stage.name, stage.epochs, len(stage.batches)) for stage in self.stages],
            kept=0 if state is None else state["log_bytes"],
            watching=self.watching,
            bar=self.progress,
            running=self.running,
            main=self.runtime.main,
        )
        self.saving = Saving(self.runtime, self._write)
        try:
            for index in range(first, len(self.stages)):
                self._stage(index, state if index == first else None)
            self.saving.wait()
        finally:
            self.saving.close()
            self.log.close()
        if self.runtime.dtype != torch.float32:
            self.task.float()  # weights are kept in float32, whatever they were computed in
        return self._result(sum(stage.epochs for stage in self.stages))

    def _result(self, epochs: int) -> TrainResult:
        return TrainResult(dict(self.sums), epochs, self.steps, self.images, self.seconds)

    def _identity(self) -> dict[str, Any]:
        stages = [[stage.name, stage.epochs, len(stage.batches)] for stage in self.stages]
        return {"seed": self.seed, "stages": stages}

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / STATE
        state = load_state(path) if path.is_file() else None
        self.runtime.barrier()  # nobody overwrites the state before everybody has read it
        counts = [(stage.epochs, len(stage.hooks)) for stage in self.stages]
        whole = state is not None and is_whole_state(state, counts)
        identity = state["identity"] if state is not None and whole else None
        if state is not None and identity != self._identity():
            raise ReidpipeError(
                f"found the state of another run in {path}: {identity}; expected "
                f"{self._identity()}; to start over type rm {path}"
            )
        return state

    # ------------------------------------------------------------------ one stage

    def _stage(self, index: int, state: dict[str, Any] | None) -> None:
        stage, task = self.stages[index], self.task
        task.begin_stage(stage.name)
        if state is not None:
            # Hooks may need trained weights and may create buffers, which are then overwritten.
            own = {key: value.shape for key, value in task.state_dict().items()}
            known = {k: v for k, v in state["task"].items() if own.get(k) == v.shape}
            task.load_state_dict(known, strict=False)
        for hook in stage.hooks:
            hook.begin_stage(task)
        if state is not None:
            load_strict(task, state["task"], source=str(self.folder / STATE))
            for hook, saved in zip(stage.hooks, state["hooks"], strict=True):
                hook.load_state_dict(saved)

        multipliers = stage.select(self.trainable)
        self.names = list(multipliers)
        for name, parameter in task.named_parameters():
            parameter.requires_grad_(name in multipliers)
        self.module = self.runtime.parallel(task)
        parameters = dict(task.named_parameters())
        self.optimiser = stage.optimiser.build(
            {name: (parameters[name], factor) for name, factor in multipliers.items()}
        )
        self.trained = [parameters[name] for name in multipliers]
        self.scaler = self.runtime.scaler()
        self.ema = averaged(task) if stage.ema is not None else None
        epoch, step = 0, 0
        if state is not None:
            check_order(state, self.names, self.optimiser, self.folder / STATE)
            epoch, step = state["epoch"], state["step"]
            self.optimiser.load_state_dict(state["optimiser"])
            if state["scaler"]:  # a processor without fp16 computed in fp32, which scales nothing
                self.scaler.load_state_dict(state["scaler"])
            if self.ema is not None:
                self.ema = {k: v.to(self.runtime.device) for k, v in state["ema"].items()}
        self._epochs(index, epoch, step)
        if self.ema is not None:
            task.load_state_dict(self.ema, strict=False)
        for name, parameter in task.named_parameters():
            parameter.requires_grad_(name in self.trainable)

    def _epochs(self, index: int, epoch: int, step: int) -> None:
        self.saved_at = time.monotonic()
        self.log.begin_stage(index, epoch, step)
        if epoch and not step:
            # Its state was saved before it was looked at, and nobody knows how far that had come.
            self._look(index, epoch - 1)
        for number in range(epoch, self.stages[index].epochs):
            self._epoch(index, number, step if number == epoch else 0)
        self.log.end_stage()

    # ------------------------------------------------------------------ one epoch

    def _epoch(self, index: int, epoch: int, first: int) -> None:
        stage = self.stages[index]
        steps = len(stage.batches)
        if first == 0:
            self.sums = {}
            for hook in stage.hooks:
                figures = hook.begin_epoch(self.task, epoch)
                if figures:
                    self.log.hook(epoch, figures)
        self.task.train()
        self.clock = time.monotonic()
        started, images, seconds = self.clock, self.images, self.seconds
        batches = stage.batches.epoch(epoch, self.runtime.rank, self.runtime.world)
        step = first
        for step, batch in enumerate(islice(batches, first, None), start=first):
            self._step(index, epoch, step, batch)
            boundary = (step + 1) % stage.accumulate == 0 and step + 1 < steps
            if boundary and self._due(step + 1):
                self._save(index, epoch, step + 1)
        if step + 1 != steps:
            raise RuntimeError(f"batch source gave {step + 1} batches; its length is {steps}")
        self._settle(index, epoch)
        self.runtime.synchronise()
        self._tick()
        counts = {"gradient": (stepped := -(-steps // stage.accumulate)), "skipped": stepped}
        self.sums = {name: v / counts.get(name, steps) for name, v in self.sums.items()}
        rate = (self.images - images) / max(self.seconds - seconds, 1e-9)
        self.log.epoch(epoch, self.sums, rate, time.monotonic() - started)
        self._save(index, epoch + 1, 0)
        self._look(index, epoch)

    def _look(self, index: int, epoch: int) -> None:
        """Call ``after_epoch``: its time counts as nobody's training."""
        if self.after_epoch is not None and self.runtime.main:
            self.saving.wait()
            number = sum(stage.epochs for stage in self.stages[:index]) + epoch + 1
            last = number == sum(stage.epochs for stage in self.stages)
            weights = {**self.task.state_dict(), **(self.ema or {})}
            weights = {name: stored(value) for name, value in weights.items()}
            end = EpochEnd(
                self.stages[index], epoch, number, last, weights, self._result(number), self.log
            )
            with self.runtime.isolated_randomness():
                self.after_epoch(end)
        if self.after_epoch is not None:
            self.runtime.barrier()

    def _step(self, index: int, epoch: int, step: int, batch: dict[str, Tensor]) -> None:
        stage, steps = self.stages[index], len(self.stages[index].batches)
        factor = stage.schedule(epoch, step, steps, stage.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        group_start = step - step % stage.accumulate
        group_size = min(stage.accumulate, steps - group_start)
        last = step + 1 == group_start + group_size
        images = len(next(iter(batch.values()))) * self.runtime.world
        self.images += images
        moved = self.runtime.move(batch, channels_last=self.channels_last)
        rank = self.runtime.rank
        torch.manual_seed(derive_seed(self.seed, "step", stage.name, epoch, step, rank))

        with nullcontext() if last else _no_sync(self.module):
            with self.runtime.autocast():
                losses, report = self.module(moved)
            total = torch.stack([full(loss) for loss in losses.values()]).sum()
            self.scaler.scale(total / group_size).backward()
        norm = torch.full((), 0.0)
        if last:
            self.scaler.unscale_(self.optimiser)
            norm = self._clip(stage.clip)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.optimiser.zero_grad(set_to_none=True)
            for hook in stage.hooks:
                hook.after_step(self.task)
            if self.ema is not None and stage.ema is not None:
                average(self.ema, self.task, stage.ema)
        self.steps += 1
        # Reading the values waits for the device: they are read when the next step is queued.
        self._settle(index, epoch)
        figures = [*losses.values(), norm, *report.values()]
        values = torch.stack(
            [
                torch.as_tensor(v, dtype=self.runtime.dtype, device=total.device).detach()
                for v in figures
            ]
        )
        lr = self.optimiser.param_groups[0]["lr"]
        names = [*losses, "gradient", *report]
        mean = self.runtime.mean(values)
        self.pending = _Step(step, lr, names, len(losses), mean, images, batch)

    def _clip(self, clip: float | None) -> Tensor:
        """Norm of all gradients, before they are scaled down to ``clip``."""
        if clip is not None:
            return nn.utils.clip_grad_norm_(self.trained, clip)
        return nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])

    def _settle(self, index: int, epoch: int) -> None:
        """Read, check and log the step whose losses are pending."""
        step, self.pending = self.pending, None
        if step is None:
            return
        stage = self.stages[index]
        values = dict(zip(step.names, step.values.tolist(), strict=True))
        if self.scaler.is_enabled():
            # fp16 overflows now and then in the backward pass: its scaler skips such a step.
            values["skipped"] = float(not math.isfinite(values["gradient"]))
            values["gradient"] = 0.0 if values["skipped"] else values["gradient"]
        checked = step.names[: step.losses + 1]
        bad = {name: values[name] for name in checked if not math.isfinite(values[name])}
        if bad:
            self._stop(stage, epoch, step, bad)
        figures = {"loss": sum(values[name] for name in step.names[: step.losses]), **values}
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.log.step(epoch, step.number, step.lr, figures, step.images)

    def _stop(self, stage: Stage, epoch: int, step: _Step, bad: dict[str, float]) -> None:
        rank = self.runtime.rank
        path = self.folder / (NAN_BATCH if rank == 0 else f"nan-batch-{rank}.pt")
        place = {"stage": stage.name, "epoch": epoch, "step": step.number}
        save_state(path, {"batch": step.batch, "figures": bad, **place})
        found = ", ".join(f"{name} {value}" for name, value in bad.items())
        raise ReidpipeError(
            f"found a loss that is not finite ({found}) in stage '{stage.name}', epoch {epoch}, "
            f"step {step.number}; expected finite losses; its batch is {path}: look at it, or type "
            "a lower learning rate or precision=fp32"
        )

    # ------------------------------------------------------------------ state

    def _due(self, step: int) -> bool:
        late = time.monotonic() - self.saved_at > self.save_seconds
        return late or (self.save_every is not None and step % self.save_every == 0)

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self.clock
        self.clock = now

    def _save(self, index: int, epoch: int, step: int) -> None:
        """``epoch`` and ``step`` are the next to do."""
        if not self.runtime.main:
            return
        self._settle(index, epoch)  # a state with weights that a NaN has reached is worth nothing
        self._tick()
        self.saving.begin(
            {
                "identity": self._identity(),
                "stage": index,
                "epoch": epoch,
                "step": step,
                "task": self.task.state_dict(),
                "trained": self.names,
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema,
                "hooks": [hook.state_dict() for hook in self.stages[index].hooks],
                "sums": self.sums,
                "images": self.images,
                "steps": self.steps,
                "seconds": self.seconds,
                "log_bytes": self.log.position(),
            }
        )
        self.saved_at = time.monotonic()

    def _write(self, state: Mapping[str, Any]) -> None:
        self.log.flush()  # a state must not remember more of the log than is there
        save_state(self.folder / STATE, state)


def _no_sync(module: nn.Module) -> Any:
    """Gradients of all but the last batch of an accumulated step stay in the process."""
    return module.no_sync() if hasattr(module, "no_sync") else nullcontext()  # type: ignore[operator]
