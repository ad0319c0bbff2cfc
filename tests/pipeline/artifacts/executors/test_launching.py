"""Clusters that are started: the job that SLURM would get, workers behind ssh on this machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.executors import launching
from pipeline.artifacts.executors.certificates import temporary
from pipeline.artifacts.executors.cluster import Cluster, connect
from pipeline.artifacts.executors.settings import read_settings
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.stopping import untouched
from tests.conftest import PROJECT

# Jobs of this SLURM run here, at once.
SBATCH = """#!/bin/sh
cp "$1" "{folder}/script.sh"
setsid bash "{folder}/script.sh" > "{folder}/job.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = "#!/bin/sh\nkill -TERM -- -$1\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("dask_jobqueue")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (commands / name).write_text(text.format(folder=tmp_path))
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def settings(*more: str) -> dict[str, Any]:
    return read_settings("slurm", ["cores=4", "memory=8GB", "interface=lo", *more])


def test_the_job_that_slurm_would_get(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with untouched():
        from dask_jobqueue.slurm import SLURMCluster

    monkeypatch.setattr(SLURMCluster, "scale", lambda *_: None)  # nothing is submitted
    tls = slurm / "tls"
    tls.mkdir()
    options = settings("gpus=2", "queue=gpu", "walltime=1:00:00", "job_extra_directives=--qos=high")
    cluster = Cluster(kind="slurm", options=options, workers=3, workspace=slurm / "w")
    with launching.slurm(cluster, temporary(tls)) as given:
        started: Any = given
        script = started.job_script()
        assert started.scheduler_address.startswith("tls://127.0.0.1:")
    header, _, line = script.rpartition("\n" + sys.executable)
    assert set(header.splitlines()) >= {
        "#SBATCH -J reidpipe",
        "#SBATCH -p gpu",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH -t 1:00:00",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --qos=high",
        f"#SBATCH -o {slurm}/w/cluster-logs/reidpipe-%J.out",
    }
    words = line.split()
    for pair in [
        "--death-timeout 60",
        "--resources GPU=2",
        "--interface lo",
        "--dashboard-address 127.0.0.1:0",
        f"--tls-ca-file {tls}/ca.pem",
        f"--tls-key {tls}/key.pem",
    ]:
        assert pair in line
    assert "--no-dashboard" in words and "--nanny" in words
    last = len(words) - 1 - words[::-1].index("--nthreads")
    assert words[last + 1] == "1"  # of two the last one counts
    assert (tls / "key.pem").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_jobs_of_slurm_work_and_end(slurm: Path) -> None:
    options = settings(
        f"job_script_prologue=export PYTHONPATH={PROJECT}", f"local_directory={slurm}"
    )
    cluster = Cluster(kind="slurm", options=options, workers=1, workspace=slurm / "w")
    with connect(cluster) as client:
        pid: Any = client.submit(os.getpid).result(timeout=60)
        assert pid != os.getpid()
        assert len(list((slurm / "w").glob(".cluster-*/"))) == 1
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert not list((slurm / "w").glob(".cluster-*"))


def mistake(cluster: Cluster) -> str:
    with pytest.raises(ReidpipeError) as caught, launching.launched(cluster):
        pass
    line = str(caught.value)
    assert "\n" not in line and len(line) <= 500
    return line


def test_what_is_missing_is_one_line(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(**changed: Any) -> Cluster:
        fields = {"kind": "slurm", "options": settings(), "workspace": slurm / "w"}
        return Cluster(**{**fields, **changed})

    found = "no network interface 'ib9'"
    assert found in mistake(typed(options={**settings(), "interface": "ib9"}))
    without = {name: value for name, value in settings().items() if name != "interface"}
    assert "--cluster-option interface=" in mistake(typed(options=without))
    assert "without spaces" in mistake(typed(workspace=slurm / "a b"))
    (slurm / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    assert "invalid partition" in mistake(typed())
    (slurm / "bin" / "sbatch").unlink()
    assert "no command sbatch" in mistake(typed())
    monkeypatch.setitem(launching._MODULES, "slurm", ("no_such_package",))
    assert "pip install 'reidpipe[slurm]'" in mistake(typed())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ReidpipeError, match=r"reidpipe\[dashboard\]"):
        launching.dashboard_address(True)
    assert launching.dashboard_address(False) == {
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
    }


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[list[str]]:
    """A server of this machine's own on a loopback port; what is typed to reach it."""
    pytest.importorskip("asyncssh")
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(server).exists() or os.geteuid() != 0:
        pytest.skip("needs sshd and root")
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name]
        subprocess.run(words, check=True)
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nPidFile {tmp_path}/pid\nUsePAM no\n"
        f"SetEnv PYTHONPATH={PROJECT}\n"
    )
    process = subprocess.Popen([server, "-D", "-e", "-f", tmp_path / "conf"])
    time.sleep(0.5)
    yield ["hosts=127.0.0.1", f"port={port}", "known_hosts=none", f"client_keys={tmp_path}/user"]
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_workers_behind_ssh(sshd: list[str], tmp_path: Path) -> None:
    options = read_settings("ssh", [*sshd, "gpus=2"])
    cluster = Cluster(kind="ssh", options=options, workspace=tmp_path / "w")
    with connect(cluster) as client:
        assert client.scheduler_info()["address"].startswith("tls://127.0.0.1:")
        client.wait_for_workers(2, timeout=60)
        run: Any = client.run
        seen: dict[str, str] = run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert sorted(seen.values()) == ["0", "1"]
        pids: list[int] = list(run(os.getpid).values())
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    nobody = Cluster(kind="ssh", options={**options, "python": "/nowhere"}, workspace=tmp_path)
    assert "by /nowhere with this package" in mistake(nobody)
