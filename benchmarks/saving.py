"""What the training thread does for a training state: a copy of it, beside writing it.

    OMP_NUM_THREADS=1 python -m benchmarks.saving            # ViT-B's size, 1 GB
    OMP_NUM_THREADS=1 python -m benchmarks.saving --millions 5

The state is that of AdamW over so many parameters: weights and two averages. CPU seconds of the
training thread alone; seconds of the clock beside them, since writing waits for a disk. On a GPU
the copy is one out of its memory. The limit is the same number of bytes copied by one call.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.row import Row
from reid_train.engine.checkpoint import save_state
from reid_train.engine.runtime import Runtime
from reid_train.engine.saving import Saving

LAYERS = 150


def state_of(millions: float) -> dict[str, Any]:
    """Of a network of ``LAYERS`` equal tensors."""
    size = int(millions * 1e6 / LAYERS)
    tensors = [[torch.rand(size) for _ in range(3)] for _ in range(LAYERS)]
    return {
        "task": {str(number): weights for number, (weights, *_) in enumerate(tensors)},
        "optimiser": {
            "state": {
                number: {"step": torch.tensor(1.0), "exp_avg": mean, "exp_avg_sq": square}
                for number, (_, mean, square) in enumerate(tensors)
            }
        },
    }


def measured(millions: float, rounds: int) -> dict[str, tuple[float, float]]:
    """Way -> CPU seconds of this thread and seconds of the clock, medians."""
    torch.set_num_threads(1)
    state = state_of(millions)
    whole = torch.rand(int(3e6 * millions))
    room = torch.empty_like(whole)
    taken: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.pt"
        saving = Saving(Runtime.create("cpu"), lambda given: save_state(path, given))
        ways: dict[str, Callable[[], Any]] = {
            "written": lambda: save_state(path, state),
            "copied": lambda: saving.begin(state),
            "limit": lambda: room.copy_(whole),
        }
        for _ in range(rounds):
            for way, run in ways.items():
                cpu, clock = time.thread_time(), time.perf_counter()
                run()
                spent = time.thread_time() - cpu, time.perf_counter() - clock
                taken.setdefault(way, []).append(spent)
                saving.wait()
    return {
        way: (statistics.median(a for a, _ in spent), statistics.median(b for _, b in spent))
        for way, spent in taken.items()
    }


def rows(millions: float = 10, rounds: int = 3) -> Iterable[Row]:
    found = measured(millions, rounds)
    (written, _), (copied, _), (limit, _) = found["written"], found["copied"], found["limit"]
    size = 12e6 * millions / 2**20
    yield Row(
        f"the training thread's part of a state of {size:.0f} MiB",
        written / copied,
        "x",
        "faster than writing it there",
        "",
        f"the same bytes copied at once: {written / limit:.1f}x",
        size,
    )


@click.command()
@click.option("--millions", default=86.0, help="of parameters")
@click.option("--rounds", default=5)
def main(millions: float, rounds: int) -> None:
    """Print seconds of the training thread, its own and the clock's."""
    for way, (cpu, clock) in measured(millions, rounds).items():
        click.echo(f"{way:10s} {cpu:.3f} CPU s, {clock:.3f} s on the clock")


if __name__ == "__main__":
    main()
