"""What a step needs of the worker that executes it, in dask's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.artifacts.kinds import Kind

# The name that workers announce: dask worker --resources GPU=1.
GPU = "GPU"


def announced(client: Client) -> float:
    """GPUs of the worker that announces most of them; 0: none does, and none can be asked for."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return max((worker.get("resources", {}).get(GPU, 0.0) for worker in workers), default=0.0)


def resources(kind: Kind, device: str, gpus: float, processes: int = 1) -> dict[str, float] | None:
    """dask's ``resources`` of a task that is a step: one GPU, a collective step ``processes``.

    device: as typed, ``cpu`` needs none. gpus: what ``announced`` gave; None where nothing is asked
    for, so that a cluster whose workers announce no GPU executes every step. Raises ReidpipeError
    where no worker has as many.
    """
    if not gpus or not kind.gpu or kind.spread or device == "cpu":
        return None
    needed = float(processes if kind.collective else 1)
    if needed > gpus:
        raise ReidpipeError(
            f"found workers that announce {gpus:g} GPU at most and --processes-per-job "
            f"{processes}; expected one with as many; start it with --resources GPU={processes}"
        )
    return {GPU: needed}
