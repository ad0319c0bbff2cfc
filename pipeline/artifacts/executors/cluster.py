"""A dask cluster: the one that a user has, or one that is started; and a client of it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
WORKER_SECONDS = 60.0
# Of a scheduler file: dask writes a few hundred bytes, and a line for each worker.
_FILE_BYTES = 1 << 20
_ADDRESS = re.compile(
    r"(?P<protocol>tcp|tls)://(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(?P<port>\d{1,5})"
)
EXAMPLE = "tcp://127.0.0.1:8786"


@dataclass(frozen=True)
class Cluster:
    """Where steps are executed, when not by processes of this machine alone.

    scheduler: ``tcp://HOST:PORT``, ``tls://HOST:PORT`` or a scheduler file of dask, for a cluster
    that runs. kind: ``slurm`` or ``ssh``, for one that is started and ended here, with ``options``
    of ``executors.options``; one of the two is given. workers: how many are started; None: as the
    options say. tls: folder with ``ca.pem``, ``cert.pem`` and ``key.pem``, in the place of dask's
    own configuration. workspace: its root, which every worker must see; None: nothing is looked at.
    dashboard: whether dask's page is served, on loopback, by a cluster that is started.
    """

    scheduler: str | None = None
    kind: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    tls: Path | None = None
    workspace: Path | None = None
    dashboard: bool = False

    def __str__(self) -> str:
        return self.scheduler or f"--cluster {self.kind}"


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[Client]:
    """A client of ``cluster``, with a worker at least, all of which fit this program and see its
    workspace. What was started for it ends with the context.

    Raises ReidpipeError for all that a user can mend: no scheduler or worker there, certificates
    that are missing or do not fit, an address that is none, other versions on a worker.
    """
    from pipeline.artifacts.executors import fitness

    with contextlib.ExitStack() as stack:
        if cluster.kind is not None:
            from pipeline.artifacts.executors.launching import SLURM_SECONDS, launched

            client = stack.enter_context(launched(cluster))
            usual = SLURM_SECONDS if cluster.kind == "slurm" else WORKER_SECONDS
            wait = float(cluster.options.get("wait", usual))
        else:
            client = stack.enter_context(_client(cluster))
            wait = WORKER_SECONDS
        _wait_for_worker(client, cluster, wait)
        fitness.check(client, cluster.workspace)
        yield client


def address_of(scheduler: str) -> str:
    """The address that ``scheduler`` is, or that the scheduler file of this name holds.
    Raises ReidpipeError where that is none.
    """
    if _ADDRESS.fullmatch(scheduler):
        return _checked(scheduler, scheduler)
    if "://" in scheduler:
        raise ReidpipeError(
            f"found scheduler '{scheduler}'; expected tcp://HOST:PORT, tls://HOST:PORT or a "
            f"scheduler file; type --scheduler {EXAMPLE}"
        )
    path = Path(scheduler)
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        hint = f"tcp://{scheduler}" if _ADDRESS.fullmatch(f"tcp://{scheduler}") else EXAMPLE
        reason = getattr(error, "strerror", None) or "no path"
        raise ReidpipeError(
            f"found no scheduler file {scheduler} ({reason}); expected one that `dask scheduler "
            f"--scheduler-file` wrote, or an address; type --scheduler {hint}"
        ) from error
    try:
        value = json.loads(content) if len(content) <= _FILE_BYTES else None
    except (ValueError, RecursionError):
        value = None
    address = value.get("address") if isinstance(value, dict) else None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ReidpipeError(
            f"found no address in {scheduler}; expected a file that `dask scheduler "
            '--scheduler-file` wrote, JSON with "address": "tcp://HOST:PORT"; type its name'
        )
    return _checked(address, scheduler)


def _checked(address: str, typed: str) -> str:
    found = _ADDRESS.fullmatch(address)
    assert found is not None
    if not 0 < int(found["port"]) < 65536:
        raise ReidpipeError(
            f"found port {found['port']} in {typed}; expected 1 to 65535; type the port that "
            "`dask scheduler` told"
        )
    return address


@contextlib.contextmanager
def _client(cluster: Cluster) -> Iterator[Client]:
    from pipeline.artifacts.executors.certificates import security_of

    assert cluster.scheduler is not None
    address = address_of(cluster.scheduler)
    security = security_of(cluster.tls, address)
    with opened(address, security, named=cluster.scheduler) as client:
        yield client


@contextlib.contextmanager
def opened(address: str, security: Security | None, *, named: str) -> Iterator[Client]:
    """A client of the scheduler at ``address``, which a user knows as ``named``."""
    from distributed import Client

    where = named if named == address else f"{address}, of {named}"
    try:
        with warnings.catch_warnings(), quiet("distributed.comm", "distributed.core"):
            # Versions are checked by ``fitness``, which says what to do about them.
            warnings.simplefilter("ignore")
            client = Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False, security=security
            )
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        secured = "with TLS and these certificates " if address.startswith("tls") else ""
        raise ReidpipeError(
            f"found no dask scheduler at {where}; expected one that answers {secured}within "
            f"{CONNECT_SECONDS:g} s; start it (dask scheduler --host 127.0.0.1 --no-dashboard), "
            "type its address, or --jobs N in place of --scheduler"
        ) from error
    with client:
        yield client


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Without these libraries' own lines about a failure that is told in one."""
    # Those below have levels of their own: dask gives tornado.application one.
    known = sorted(logging.root.manager.loggerDict)
    below = [name for name in known if name.startswith(tuple(f"{above}." for above in names))]
    loggers = [logging.getLogger(name) for name in (*names, *below)]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def _wait_for_worker(client: Client, cluster: Cluster, seconds: float) -> None:
    if client.scheduler_info()["workers"]:
        return
    log.warning("waiting up to %g s for a worker of %s", seconds, cluster)
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        what = (
            f"start them (dask worker {cluster.scheduler} --nthreads 1 --no-dashboard)"
            if cluster.kind is None
            else f"look at its queue and logs, or type --cluster-option wait={2 * seconds:g}"
        )
        raise ReidpipeError(
            f"found no worker of {cluster} within {seconds:g} s; expected at least one; {what}"
        ) from error
