"""Clusters that are started for a command and end with it: SLURM jobs, machines reached by ssh.

The scheduler is a part of this process, so that nothing outlives it but workers that notice and
end. All speak TLS: with the certificates of ``--tls``, else with one that is made for this command.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.executors.certificates import check_folder, from_folder, temporary
from pipeline.artifacts.executors.cluster import CONNECT_SECONDS, Cluster, quiet
from pipeline.artifacts.executors.needs import GPU
from pipeline.artifacts.executors.scratch import scratch
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.stopping import untouched

if TYPE_CHECKING:
    from distributed import Client, SpecCluster
    from distributed.security import Security

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_MODULES = {"slurm": ("dask_jobqueue", "cryptography"), "ssh": ("asyncssh", "cryptography")}
# A worker that ends early (a job's time is over) is asked for again this often.
_RENEW_SECONDS = 20.0
# Jobs of SLURM may queue for long; ``wait`` says otherwise.
SLURM_SECONDS = 24 * 3600
_LOG = "cluster-logs"


def check_installed(kind: str) -> None:
    """Raise ReidpipeError unless what a cluster of this kind stands on is installed."""
    for module in _MODULES[kind]:
        if importlib.util.find_spec(module) is None:
            raise ReidpipeError(
                f"found no package {module}, which --cluster {kind} needs; expected it; type "
                f"pip install 'reidpipe[{kind}]'"
            )


def dashboard_address(asked: bool) -> dict[str, Any]:
    """dask's settings of a scheduler: no page unless it is asked for, and then on loopback."""
    if asked and importlib.util.find_spec("bokeh") is None:
        raise ReidpipeError(
            "found no package bokeh, which --dashboard needs; expected it; type "
            "pip install 'reidpipe[dashboard]'"
        )
    return {"dashboard": asked, "dashboard_address": f"{LOOPBACK}:{8787 if asked else 0}"}


@contextlib.contextmanager
def launched(cluster: Cluster) -> Iterator[Client]:
    """Start the cluster and give a client of it; its workers may still be on their way.
    Raises ReidpipeError where it cannot be started.
    """
    assert cluster.kind is not None
    check_installed(cluster.kind)
    from dask import config
    from distributed import Client

    if cluster.dashboard:
        dashboard_address(True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet("asyncio", "tornado", "concurrent.futures"))
        security = stack.enter_context(_security(cluster))
        stack.enter_context(config.set(_as_config(security)))
        start = {"slurm": slurm, "ssh": ssh}[cluster.kind]
        try:
            started: Any = start(cluster, security)
            stack.callback(_close, started)
            while len(started.worker_spec) < (cluster.workers or 1):
                started.worker_spec.update(started.new_worker_spec())
            # What ``scale`` does later, where its failures would be lines in a log.
            started.sync(started._correct_state)
        except ReidpipeError:
            raise
        except Exception as error:
            python = cluster.options.get("python", sys.executable)
            raise ReidpipeError(
                f"found no way to start {cluster} ({_reason(error)}); expected its workers to "
                f"start, by {python} with this package; mend that, or start them yourself and type "
                "--scheduler ADDRESS"
            ) from error
        client = Client(started, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
        stack.enter_context(client)
        if cluster.dashboard:
            log.warning("dashboard at %s", started.dashboard_link)
        stack.enter_context(_renewed(started))
        yield client


def _close(started: Any) -> None:
    try:
        started.close()
    except AssertionError:  # dask's own, of a worker that was never started: that is told already
        pass
    except Exception as error:
        log.warning("%s could not be ended in order: %s", started, _reason(error))


def slurm(cluster: Cluster, security: Security) -> SpecCluster:
    """dask-jobqueue's cluster, for jobs that are each a worker of one thread, as one step is made
    at a time, and with ``gpus`` GPUs. None is asked for yet.
    """
    with untouched():
        from dask_jobqueue.slurm import SLURMCluster

    given = dict(cluster.options)
    for name in ("sbatch", "scancel"):
        if shutil.which(name) is None:
            raise ReidpipeError(
                f"found no command {name} here; expected SLURM's; type this on a login node of "
                "the cluster"
            )
    given.pop("wait", None)
    gpus, host = given.pop("gpus", 0), given.pop("host", None)
    directives = [*([f"--gres=gpu:{gpus}"] if gpus else []), *given.pop("job_extra_directives", [])]
    words = ["--nthreads", "1", "--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"]
    words += ["--resources", f"{GPU}={gpus}"] if gpus else []
    logs = given.pop("log_directory", None) or str(_folder(cluster) / _LOG)
    Path(logs).mkdir(parents=True, exist_ok=True)
    _check_plain(logs, *security.get_tls_config_for_role("worker").values())
    return SLURMCluster(
        processes=1,
        protocol="tls://",
        security=security,
        python=shlex.quote(given.pop("python", sys.executable)),
        job_name=given.pop("job_name", "reidpipe"),
        log_directory=logs,
        job_extra_directives=directives,
        worker_extra_args=[*words, *given.pop("worker_extra_args", [])],
        scheduler_options={
            **dashboard_address(cluster.dashboard),
            **_listening(cluster, host, loopback=False),
        },
        **given,
    )


def ssh(cluster: Cluster, security: Security) -> SpecCluster:
    """Workers on ``hosts``, in turn, started by dask's own class for a worker behind ssh. With
    ``gpus`` each host has as many, and each worker one of them; without ``workers`` one is started
    for each host, or for each GPU of each host.
    """
    from distributed import Scheduler, SpecCluster
    from distributed.deploy.ssh import Worker

    given = dict(cluster.options)
    hosts, gpus = given["hosts"], given.get("gpus", 0)
    loopback = all(host in ("localhost", "::1") or host.startswith("127.") for host in hosts)
    scheduler = {
        "protocol": "tls://",
        "port": 0,
        "security": security,
        **dashboard_address(cluster.dashboard),
        **_listening(cluster, given.get("host"), loopback=loopback),
    }
    common: dict[str, Any] = {
        "nthreads": 1,
        "protocol": "tls://",
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",
        "death_timeout": given.get("death_timeout", 60),
        "memory_limit": given.get("memory_limit", 0),
    }
    common |= {"local_directory": d} if (d := given.get("local_directory")) else {}
    common |= {"host": LOOPBACK} if loopback else {}
    if not loopback and "interface" in given:
        common["interface"] = given["interface"]
    workers = {}
    for number in range(cluster.workers or len(hosts) * max(gpus, 1)):
        kwargs = {**common, "name": number}  # by which dask knows which one it lost
        if gpus:
            # dask's nanny sets the environment before its worker starts.
            one = number // len(hosts) % gpus
            kwargs |= {"resources": {GPU: 1}, "env": {"CUDA_VISIBLE_DEVICES": str(one)}}
        options = {
            "address": hosts[number % len(hosts)],
            "connect_options": _connecting(given),
            "kwargs": kwargs,
            "remote_python": shlex.quote(given.get("python", sys.executable)),
        }
        workers[number] = {"cls": Worker, "options": options}
    quiet: Any = logging.ERROR
    spec = {"cls": Scheduler, "options": scheduler}
    return SpecCluster(workers, spec, name="ssh", security=security, silence_logs=quiet)


def _connecting(given: dict[str, Any]) -> dict[str, Any]:
    names = ("username", "port", "client_keys")
    options = {name: given[name] for name in names if name in given}
    if "known_hosts" in given:
        options["known_hosts"] = None if given["known_hosts"] == "none" else given["known_hosts"]
    return {**options, "connect_timeout": CONNECT_SECONDS}


def _listening(cluster: Cluster, host: str | None, *, loopback: bool) -> dict[str, str]:
    """Where the scheduler listens: an interface that the user named, never all of them."""
    import psutil

    found = psutil.net_if_addrs()
    interface = cluster.options.get("interface")
    if interface is not None and interface not in found:
        raise ReidpipeError(
            f"found no network interface '{interface}' here{nearest(interface, found)}; expected "
            f"one of {', '.join(found)}; type --cluster-option interface=NAME"
        )
    if host is not None:
        return {"host": host}
    if interface is not None:
        return {"interface": interface}
    if loopback:
        return {"host": LOOPBACK}
    others = [name for name in found if name != "lo"] or list(found)
    raise ReidpipeError(
        f"found no interface for {cluster}; expected the one by which its machines reach this one "
        f"({', '.join(others)}); type --cluster-option interface={others[0]}"
    )


@contextlib.contextmanager
def _security(cluster: Cluster) -> Iterator[Security]:
    if cluster.tls is not None:
        check_folder(cluster.tls)
        yield from_folder(cluster.tls)
        return
    with scratch(_folder(cluster), ".cluster-") as folder:
        yield temporary(folder)


def _folder(cluster: Cluster) -> Path:
    """Where workers find certificates and write logs: the workspace, which all see."""
    folder = cluster.workspace or Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _as_config(security: Security) -> dict[str, Any]:
    """As dask's configuration: the one way by which a worker behind ssh is told."""
    worker = security.get_tls_config_for_role("worker")
    own = {"distributed.comm.require-encryption": True}
    own["distributed.comm.tls.ca-file"] = worker["ca_file"]
    for role in ("client", "scheduler", "worker"):
        for part in ("cert", "key"):
            own[f"distributed.comm.tls.{role}.{part}"] = worker[part]
    return own


def _check_plain(*paths: str | None) -> None:
    """dask-jobqueue writes them into the job's script as they are."""
    for path in paths:
        if path is not None and shlex.quote(path) != path:
            raise ReidpipeError(
                f"found {path!r} for a script of SLURM; expected a path without spaces or signs "
                "of the shell; type --workspace DIR with another"
            )


@contextlib.contextmanager
def _renewed(started: SpecCluster) -> Iterator[None]:
    """While inside, workers that ended early are started again."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_RENEW_SECONDS):
            try:
                started.sync(started._correct_state)
            except Exception as error:
                if not ended.is_set():
                    log.warning("a worker could not be started again: %s", _reason(error))

    thread = threading.Thread(target=watch, name="renew-workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _reason(error: BaseException) -> str:
    """The line of an error, and of those behind it, that says most."""
    text = str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = lines.index("stderr:") if "stderr:" in lines else None  # dask-jobqueue's own form
    line = lines[told + 1] if told is not None and told + 1 < len(lines) else lines[0]
    return line[:200]
