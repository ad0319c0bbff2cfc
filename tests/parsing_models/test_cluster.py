"""Label maps over several processes: GPUs of one machine, a dask cluster that loses a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from parsing_models import work
from pipeline.artifacts.processes import spread_pinned
from pipeline.labels import shards
from pipeline.labels.maps import LabelMapReader
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine import runtime
from tests.finished import finished_keys
from tests.parsing_models.test_work import make_job, weights  # noqa: F401


def on_device(device: str, seconds: float, items: list[Any]) -> list[tuple[str, int, Any]]:
    """Stands for ``make_maps`` on one of several GPUs."""
    time.sleep(seconds)
    return [(device, os.getpid(), item) for item in items]


def failing(device: str, items: list[Any]) -> list[Any]:
    raise (IndexError if device == "gpu:1" else ReidpipeError)(f"no {items[0]} on {device}")


def dying(device: str, items: list[Any]) -> list[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return items


@pytest.mark.slow
def test_each_device_has_one_process_and_each_item_is_done_once():
    functions = [partial(on_device, "gpu:0", 0.0), partial(on_device, "gpu:1", 0.4)]
    results = spread_pinned(functions, list(range(41)), chunk=4)
    assert [item for _, _, item in results] == list(range(41))
    places = {(device, process) for device, process, _ in results}
    assert len(places) == 2 == len({device for device, _ in places})
    assert os.getpid() not in {process for _, process in places}
    # Whole chunks; the quick device does not wait for the slow one.
    assert all(len({r[:2] for r in results[n : n + 4]}) == 1 for n in range(0, 41, 4))
    counts = [sum(device == name for device, _, _ in results) for name in ("gpu:0", "gpu:1")]
    assert counts[0] > counts[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (partial(failing, "gpu:0"), ReidpipeError, "no 0 on gpu:0"),
        (partial(failing, "gpu:1"), IndexError, "no 0 on gpu:1"),
        (partial(dying, "gpu:0"), ReidpipeError, "killed from outside"),
    ],
    ids=["mistake", "bug", "killed"],
)
def test_a_failure_on_one_device_ends_the_work(function: Any, error: type[Exception], text: str):
    with pytest.raises(error, match=text):
        spread_pinned([function], list(range(9)), chunk=3)


def test_a_name_without_number_means_every_gpu(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    shown = ["cpu", "cuda:0 (NVIDIA H200)", "cuda:1 (NVIDIA H200)", "cuda:2 (NVIDIA H200)"]
    monkeypatch.setattr(runtime, "list_devices", lambda: shown)
    taken: dict[str, list[Any]] = {}

    def recorded(functions: Sequence[Any], items: Sequence[Any], *, chunk: int, **_: Any):
        for number, function in enumerate(functions):
            (given,) = function.args
            assert function.func is work.make_maps and given.model == "schp"
            # In turn and on the CPU, as there is no GPU here.
            part = [row for n, row in enumerate(items) if n // chunk % len(functions) == number]
            taken[given.device] = [row.key for _, row in part]
            made[given.device] = work.make_maps(replace(given, device="cpu"), part)
        keys = [row.key for _, row in items]
        return [made[d][taken[d].index(key)] for key in keys for d in taken if key in taken[d]]

    made: dict[str, list[str]] = {}
    monkeypatch.setattr(work, "spread_pinned", recorded)
    monkeypatch.setattr(work, "SHARD_IMAGES", 4)
    job = make_job(tmp_path, weights, 30, batch=4)
    summary = work.parse(replace(job, device="auto"))
    assert summary["images"] == 30 == len(LabelMapReader(job.folder))
    assert list(taken) == ["cuda:0", "cuda:1", "cuda:2"]
    assert [len(keys) for keys in taken.values()] == [12, 10, 8]
    assert shards.verify(job.folder) == []
    for name in ("cpu", "cuda:1"):
        assert work._devices(name) == [name]
    monkeypatch.setattr(runtime, "list_devices", lambda: ["cpu"])
    assert work._devices("auto") == ["auto"]


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_no_image(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(work, "SHARD_IMAGES", 16)  # of a task; the workers store what they have
    job = make_job(tmp_path, weights, 480)
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    cluster: Any = LocalCluster(**options)
    with cluster, Client(cluster) as client:
        found: Any = client.run(os.getpid)
        pids = list(found.values())
        assert len(set(pids)) == 2 and os.getpid() not in pids
        outcome: dict[str, Any] = {}

        def run() -> None:
            outcome.update(work.parse(replace(job, scheduler=cluster.scheduler_address)))

        running = threading.Thread(target=run)
        running.start()
        deadline = time.monotonic() + 300
        while len(shards.shards(job.folder)) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        before = finished_keys(job.folder)
        os.kill(pids[0], signal.SIGKILL)
        assert 96 <= len(before) < 480, "the worker was to die in the middle"
        kept = {shard.name: shard.read_bytes() for shard in shards.shards(job.folder)}
        running.join(timeout=300)
        assert not running.is_alive()
    assert outcome["images"] == 480 and outcome["failed"] == []
    # Nothing lost, nothing twice, and what was stored when the worker died is as it was.
    assert shards.verify(job.folder) == []
    stored = [key for shard in shards.shards(job.folder) for key in shards.check_shard(shard)]
    assert len(stored) == len(set(stored)) == 480
    assert {name: (job.folder / name).read_bytes() for name in kept} == kept
    assert not list(job.folder.glob(".maps-*"))
