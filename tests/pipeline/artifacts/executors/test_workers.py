"""Workers that come while steps are made: asked what they have before they are given any."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.executors import fitness
from pipeline.artifacts.executors.threads import computing_with
from pipeline.artifacts.executors.walking import Ended, Started
from pipeline.artifacts.executors.workers import Workers
from pipeline.artifacts.mark import read_mark
from pipeline.artifacts.processes import spread
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from tests.pipeline.artifacts.executors import makers  # noqa: F401 - its kinds

COUNT = 4
_PAGELESS: dict[str, Any] = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": None}


def made_at(engine: Workers, workspace: Workspace, value: int) -> str:
    """The address of the worker that made one step."""
    step = Step("placed", {"value": value})
    engine.begin(step)
    while not isinstance(event := engine.event(), Ended):
        assert event is None or isinstance(event, Started)
    assert event.error is None
    return read_mark(workspace.folder(step))["summary"]["worker"]


def test_a_late_worker_that_does_not_fit_is_given_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from distributed import Client, LocalCluster

    caplog.set_level(logging.WARNING)
    cluster: Any = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **_PAGELESS)
    workspace = Workspace(tmp_path)
    with cluster, Client(cluster.scheduler_address, set_as_default=False) as client:
        first = cluster.workers[0].address

        def unfit(addresses: Any) -> Any:
            return fitness.unfit(client, tmp_path, addresses)

        engine = Workers(client, workspace, Execution(), unfit)
        assert made_at(engine, workspace, 0) == first
        look = fitness.looked_at_there()
        other = {"versions": {"reidpipe": "0.0.1"}}
        monkeypatch.setattr(
            fitness, "looked_at_there", lambda: lambda path: {**look(path), **other}
        )
        cluster.scale(2)
        client.wait_for_workers(2)
        assert engine.event() is None
        (late,) = {worker.address for worker in cluster.workers.values()} - {first}
        assert f"another reidpipe at worker {late}" in caplog.text
        assert {made_at(engine, workspace, value) for value in range(1, COUNT)} == {first}
        # The only one left: better there than nowhere.
        client.retire_workers([first])
        assert engine.event() is None
        assert made_at(engine, workspace, COUNT) == late


def blas_threads(items: list[int]) -> list[int]:
    """How many threads BLAS has in the process that is asked, for each item."""
    import numpy as np  # noqa: F401 - with its BLAS
    from threadpoolctl import threadpool_info

    (found,) = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return [found for _ in items]


def test_chunks_are_computed_with_the_threads_of_their_step() -> None:
    """Sums depend on them: a worker that has made no step yet has threads of its own."""
    from distributed import LocalCluster

    cluster: Any = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, **_PAGELESS)
    with cluster, computing_with(2):
        address = cluster.scheduler_address
        assert spread(blas_threads, range(3), workers=1, scheduler=address, chunk=2) == [2, 2, 2]
