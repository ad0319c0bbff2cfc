"""A dask cluster that is connected to: what is wrong with it is one line, before any work."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.executors import cluster as clusters
from pipeline.artifacts.executors import fitness
from pipeline.artifacts.executors.cluster import Cluster, address_of, connect
from pipeline.artifacts.executors.needs import announced, resources
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.processes import spread
from pipeline.terminal.errors import ReidpipeError


@pytest.fixture(autouse=True)
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(clusters, "WORKER_SECONDS", 0.5)


def mistake(cluster: Cluster) -> str:
    with pytest.raises(ReidpipeError) as caught, connect(cluster):
        pass
    line = str(caught.value)
    assert "\n" not in line and len(line) <= 500
    return line


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A worker in this process: it has all that we have."""
    from distributed import LocalCluster

    cluster: Any = LocalCluster(
        host="127.0.0.1",
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,  # type: ignore[arg-type]
        resources={"GPU": 2},
    )
    with cluster:
        yield cluster


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("localhost:8786", "type --scheduler tcp://localhost:8786"),
        ("http://localhost:8786", "expected tcp://HOST:PORT"),
        ("tcp://localhost", "expected tcp://HOST:PORT"),
        ("tcp://localhost:0", "expected 1 to 65535"),
        ("tcp://localhost:99999", "expected 1 to 65535"),
        ("nowhere.json", "no scheduler file nowhere.json"),
        ("", "no scheduler file"),
        ("a\0b", "no scheduler file"),
    ],
)
def test_an_address_that_is_none(typed: str, words: str) -> None:
    assert words in mistake(Cluster(typed))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"address": 5}', b'{"address": "x"}', b"\xff", b"[" * 9999],
)
def test_a_scheduler_file_of_another_shape(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_bytes(content)
    assert f"no address in {path}" in mistake(Cluster(str(path)))


def test_nobody_listens() -> None:
    line = mistake(Cluster("tcp://127.0.0.1:1"))
    assert "no dask scheduler at tcp://127.0.0.1:1" in line and "--host 127.0.0.1" in line


def test_no_worker_is_told_with_the_time(tmp_path: Path) -> None:
    from distributed import LocalCluster

    cluster: Any = LocalCluster(
        host="127.0.0.1",
        n_workers=0,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,  # type: ignore[arg-type]
    )
    with cluster:
        about = tmp_path / "scheduler.json"
        about.write_text(json.dumps({"address": cluster.scheduler_address}))
        assert address_of(str(about)) == cluster.scheduler_address
        line = mistake(Cluster(str(about)))
    assert "no worker" in line and "0.5 s" in line


def test_a_worker_that_fits(local: Any, tmp_path: Path) -> None:
    with connect(Cluster(local.scheduler_address, workspace=tmp_path / "new")) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert announced(client) == 2
    assert list((tmp_path / "new").iterdir()) == []  # the token is gone


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kinds": None}, "no package reidpipe at worker"),
        ({"kinds": {"index": 99}}, "another reidpipe at worker"),
        ({"versions": {"reidpipe": "0.0.1"}}, "another reidpipe at worker"),
        ({"text": None}, "no workspace"),
        ({"text": "of another"}, "another folder than this workspace"),
        ({"writable": False}, "closed to worker"),
    ],
)
def test_a_worker_that_does_not_fit(
    local: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    words: str,
) -> None:
    look = fitness.looked_at_there()
    monkeypatch.setattr(fitness, "looked_at_there", lambda: lambda path: {**look(path), **changed})
    line = mistake(Cluster(local.scheduler_address, workspace=tmp_path))
    assert words in line and local.workers[0].address in line


def test_another_python_on_a_worker(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "distributed.Client.get_versions",
        lambda _: {
            "client": {"packages": {"python": "3.11.2.final.0", "dask": "1", "distributed": "1"}},
            "scheduler": {
                "packages": {"python": "3.11.9.final.0", "dask": "1", "distributed": "1"}
            },
            "workers": {
                "tcp://w:1": {
                    "packages": {"python": "3.12.1.final.0", "dask": "1", "distributed": "1"}
                }
            },
        },
    )
    assert "found python 3.12 at worker tcp://w:1" in mistake(Cluster(local.scheduler_address))


def test_one_gpu_for_a_step_that_computes_and_none_for_others() -> None:
    def needed(name: str, device: str = "auto", gpus: float = 4, processes: int = 1) -> Any:
        return resources(KINDS[name], device, gpus, processes)

    assert needed("model") == needed("features") == needed("evaluation") == {"GPU": 1}
    assert needed("model", processes=4) == {"GPU": 4} and needed("features", processes=4) == {
        "GPU": 1
    }
    assert needed("index") is needed("scores") is needed("maps") is None
    assert needed("model", device="cpu") is needed("model", gpus=0) is None
    with pytest.raises(ReidpipeError, match="--resources GPU=4"):
        needed("model", gpus=2, processes=4)


def inner(items: list[int]) -> list[int]:
    return [2 * item for item in items]


def outer(count: int, scheduler: str) -> list[int]:
    return spread(inner, range(count), workers=1, scheduler=scheduler, gpu=True, chunk=3)


def test_steps_on_the_only_thread_spread_their_chunks_over_it(local: Any) -> None:
    """Three at once, each of which would wait for a thread that another one holds."""
    from distributed import Client

    with Client(local, set_as_default=False) as client:
        address = local.scheduler_address
        futures = [client.submit(outer, count, address) for count in (10, 11, 12)]
        results = [future.result(timeout=30) for future in futures]
    assert results == [[2 * item for item in range(count)] for count in (10, 11, 12)]


def certificate(folder: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir()
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    shutil.copy(folder / "cert.pem", folder / "ca.pem")
    return folder


def test_tls(tmp_path: Path) -> None:
    from distributed import LocalCluster

    from pipeline.artifacts.executors.certificates import from_folder

    mine, theirs = certificate(tmp_path / "mine"), certificate(tmp_path / "theirs")
    options: dict[str, Any] = {"n_workers": 1, "processes": False, "dashboard_address": None}
    cluster: Any = LocalCluster(
        host="127.0.0.1", protocol="tls://", security=from_folder(mine), **options
    )
    with cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with connect(Cluster(address, tls=mine)) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert "no certificate of yours" in mistake(Cluster(address))
        assert "these certificates" in mistake(Cluster(address, tls=theirs))
        assert "no dask scheduler" in mistake(Cluster(address.replace("tls", "tcp")))
    assert "does not encrypt" in mistake(Cluster("tcp://127.0.0.1:1", tls=mine))
    (theirs / "key.pem").write_text("nonsense")
    assert "no certificates to use" in mistake(Cluster(address, tls=theirs))
    assert "No such file" in mistake(Cluster(address, tls=tmp_path / "none"))
