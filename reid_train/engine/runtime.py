"""Where and how training runs: device, precision, threads, processes. The only file that names a
device; everything else follows the tensors it is given.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.options import check_device
from reid_train.engine.units import computed_in

PRECISIONS = ("fp32", "bf16", "fp16", "fp64")
# While the first process evaluates or clusters, the others wait for it.
PATIENCE = timedelta(hours=12)


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(0, "init")``: equal arguments give equal
    seeds on every machine, different purposes unrelated ones.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Runtime:
    """Device, precision and this process's place among ``world`` processes.

    precision: ``fp32``, ``bf16`` or ``fp16`` of the forward pass, where parameters stay float32;
    ``fp64``: of all there is, to compare trainings without the rounding that sets them apart.
    threads: of torch's CPU kernels. Sums on the CPU depend on it in the last bits, so it is part
    of ``facts`` that models record.
    """

    device: torch.device
    precision: str = "fp32"
    threads: int = 1
    rank: int = 0
    world: int = 1

    @classmethod
    def create(
        cls,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        *,
        join: bool = False,
    ) -> Runtime:
        """Resolve ``auto | cpu | cuda | cuda:<n>`` and ``auto | fp32 | bf16 | fp16 | fp64``.

        ``auto`` takes a GPU when there is one, and bf16 where the GPU computes in it, else fp32.
        A CPU without units for bf16 or fp16 computes in fp32 instead, and a warning says so.
        ``join`` is for work that all processes of ``torchrun`` do together: the process group is
        joined (NCCL on GPUs, Gloo on CPUs). Without it a process works alone, whoever waits for it.
        Raises ReidpipeError for an unknown name and for a GPU that is not there.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else None)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)  # what follows is asked of it, not of the first GPU
        if precision == "auto":
            native = chosen.type == "cuda" and torch.cuda.is_bf16_supported(
                including_emulation=False
            )
            precision = "bf16" if native else "fp32"
        if precision not in PRECISIONS:
            raise ReidpipeError(
                f"found precision '{precision}'; expected auto, {', '.join(PRECISIONS)}; "
                "type --set precision=fp32"
            )
        if chosen.type == "cpu":
            precision = computed_in(precision)
        if threads is not None:
            torch.set_num_threads(threads)
        if not join:
            return cls(chosen, precision, torch.get_num_threads())
        if world > 1 and not dist.is_initialized():
            # Its functions have the group of their first import as defaults, for good: one joined
            # before, by what DistributedDataParallel imports, could never be left.
            importlib.import_module("torch.distributed.nn")
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
            # Several steps of one command train together: a group that was left cannot be joined
            # again, since the launcher's store still holds the first one's addresses.
            atexit.register(leave)
        return cls(chosen, precision, torch.get_num_threads(), rank, world)

    @property
    def main(self) -> bool:
        """Whether this process writes files and draws bars."""
        return self.rank == 0

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters, and of sums that must not be rounded."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def place(self, module: nn.Module) -> None:
        """Put ``module`` on the device, in place; in ``fp64`` its parameters become float64."""
        module.to(self.device)
        if self.precision == "fp64":
            module.double()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass; losses leave it themselves to compute in float32."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(
            self.device.type, dtype=dtype, enabled=self.precision in ("bf16", "fp16")
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16; passes everything through in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def move(self, batch: dict[str, Tensor], *, channels_last: bool = False) -> dict[str, Tensor]:
        """The batch on the device; N,C,H,W tensors in NHWC memory order when ``channels_last``."""
        return {key: self._move(value, channels_last) for key, value in batch.items()}

    def _move(self, value: Tensor, channels_last: bool) -> Tensor:
        if not on_cpu(self.device):
            value = value.pin_memory().to(self.device, non_blocking=True)
        if self.precision == "fp64" and value.is_floating_point():
            value = value.double()
        if value.ndim != 4:
            return value
        order = torch.channels_last if channels_last else torch.contiguous_format
        return value.contiguous(memory_format=order)

    @property
    def pins(self) -> bool:
        """Whether batches belong in page-locked memory, which the device reads by itself."""
        return self.device.type == "cuda"

    @property
    def loaders(self) -> int:
        """How many threads make batches beside the one that trains: one where the model computes on
        the CPU, which takes far longer than its batches, else those of a step.
        """
        return 1 if on_cpu(self.device) else self.threads

    def copied(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each as it is now, on the CPU, in memory of its own."""
        copies = []
        for tensor in tensors:
            source = tensor.detach()
            # From a GPU all at once: page-locked memory is written while this goes on.
            copy = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
            copies.append(copy.copy_(source, non_blocking=True))
        self.synchronise()
        return copies

    @contextmanager
    def isolated_randomness(self) -> Iterator[None]:
        """Inside, torch's global generators may be seeded; afterwards they are as before."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield

    def parallel(self, module: nn.Module) -> nn.Module:
        """``module`` ready for this world: itself alone, DistributedDataParallel among several.

        Batch norm: on GPUs it is synchronised over the global batch, that of torch and timm. torch
        has no synchronised batch norm for CPUs: there each process normalises by its own shard, as
        SCHP's ``ABN`` does everywhere.
        """
        if self.world == 1:
            return module
        if self.device.type == "cuda":
            module = synchronised(module)
        # A recipe's losses need not reach every parameter of a trunk.
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, values: Tensor) -> Tensor:
        """``values`` averaged over the processes; detached."""
        values = values.detach()
        if self.world == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world

    def from_main(self, values: Tensor) -> Tensor:
        """``values`` of the main process in every process; the others' give shape and dtype."""
        if self.world == 1:
            return values
        values = values.to(self.device, copy=True)
        dist.broadcast(values, 0)
        return values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            dist.barrier()

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read now means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def facts(self) -> dict[str, Any]:
        """What a result depends on beside recipe and seed, as plain values for metadata."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "precision": self.precision,
            "threads": self.threads,
            "processes": self.world,
            "torch": torch.__version__,
        }


def synchronised(module: nn.Module) -> nn.Module:
    """``module`` with batch norm over all processes. timm's holds activations, which it keeps and
    torch's own conversion would drop.
    """
    if any(type(part).__module__.startswith("timm.") for part in module.modules()):
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(module)
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


def on_cpu(device: torch.device | str) -> bool:
    """Whether a device, or its name, is the CPU."""
    return str(device).partition(":")[0] == "cpu"


def own_stream(device: torch.device) -> None:
    """From here on this thread's work on a GPU is queued apart from the other threads'."""
    if not on_cpu(device):
        # The weights may still be on their way in the stream that loaded them.
        torch.accelerator.synchronize(device)
        torch.accelerator.set_stream(torch.Stream(device))


def free_memory(device: torch.device) -> None:
    """Give the GPU memory back that torch holds in reserve."""
    if not on_cpu(device):
        torch.accelerator.empty_cache()


def list_devices() -> list[str]:
    """What ``--device`` can name here: ``cpu``, then each usable GPU as ``cuda:<n> (<model>)``."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(count))]


def _device(asked: str | torch.device, local_rank: int | None) -> torch.device:
    name = str(asked)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    kind, _, index = check_device(name).partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    # Several processes on one machine take one GPU each, whatever index was typed.
    number = local_rank if local_rank is not None else int(index or 0)
    if number >= count:
        raise ReidpipeError(
            f"found {count} usable GPUs; expected GPU {number} for device '{name}'; "
            "type --device cpu (or --device auto)"
        )
    return torch.device("cuda", number)


class _Gather(torch.autograd.Function):
    """All processes' rows, in rank order. The backward pass sums what every process's loss says
    about this process's rows.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.count
        return gradient[start : start + ctx.count]


def leave() -> None:
    """Leave the process group, if one was joined: at the end of a command, while the interpreter
    is still whole, and of a process that fails.

    Gloo's threads end with the last reference to the group. One that still frees the tensors of
    the last sum when the interpreter goes down would abort the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # DistributedDataParallel is in cycles


def gather(rows: Tensor) -> Tensor:
    """N,... of this process -> world*N,... of the global batch, differentiable.

    Losses that compare images (triplet, contrast) and batch norms of heads are defined on the
    global batch: a task gathers features and labels, every process computes the same loss, and
    averaging gradients over processes then gives exactly the single-process gradient.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    return _Gather.apply(rows)  # type: ignore[return-value]
