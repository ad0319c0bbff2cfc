"""A memory trained by two processes: the prototypes of one, also when their number changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from reid_train.engine.runtime import gather
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory


class _Task(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 4)
        self.identities, self.cameras = PrototypeMemory(), CameraPrototypes()

    def forward(self, images: Tensor, labels: Tensor, camids: Tensor) -> Tensor:
        features, labels, camids = gather(self.trunk(images)), gather(labels), gather(camids)
        return self.identities(features, labels) + self.cameras(features, labels, camids)


def _train(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    if world > 1:
        store = f"file://{folder}/rendezvous"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    torch.manual_seed(0)
    task = _Task()
    module = nn.parallel.DistributedDataParallel(task) if world > 1 else task
    optimiser = torch.optim.SGD(task.parameters(), lr=0.1)
    images = torch.randn(24, 6)
    for count in (4, 6, 3):  # clusters of three epochs
        labels, camids = torch.arange(24) % count, torch.arange(24) // count % 2
        with torch.no_grad():
            features = task.trunk(images)
        task.identities.rebuild(features, labels)
        task.cameras.rebuild(features, labels, camids)
        for half in (slice(0, 12), slice(12, 24)):
            own = [part[half].chunk(world)[rank] for part in (images, labels, camids)]
            # Forward twice before backward: buffers are broadcast in place in between.
            (module(*own) + module(*own)).backward()
            optimiser.step()
            optimiser.zero_grad()
            task.identities.step()
            task.cameras.step()
    result = [task.trunk.weight.detach(), task.identities.prototypes, task.cameras.prototypes]
    torch.save(result, f"{folder}/{world}-{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_keep_the_memory_of_one(tmp_path: Path):
    _train(0, 1, str(tmp_path))
    mp.spawn(_train, (2, str(tmp_path)), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    results = [
        torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-0.pt", "2-1.pt")
    ]
    for alone, first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-5)
        assert torch.equal(first, second)
