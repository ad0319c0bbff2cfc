"""The options that say where steps are executed, other than by processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.terminal.errors import ReidpipeError

KINDS = ("slurm", "ssh")
_ASKED = f"{__name__}.asked"


def _kept(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta.setdefault(_ASKED, {})[param.name] = value


def _option(*names: str, **about: Any) -> Callable[[Callable], Callable]:
    return click.option(*names, expose_value=False, callback=_kept, **about)


_OPTIONS = (
    _option(
        "--scheduler", metavar="ADDR|FILE", help="Running dask cluster (or its scheduler file)."
    ),
    _option(
        "--cluster",
        type=click.Choice(KINDS),
        help="Start --jobs workers as SLURM jobs or by ssh; needs reidpipe[slurm] or [ssh].",
    ),
    _option(
        "--cluster-option",
        multiple=True,
        metavar="NAME=VALUE",
        help="Of --cluster: cores=8, memory=32GB, gpus=1, interface=ib0; hosts=node1,node2.",
    ),
    _option(
        "--tls",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Certificates of a cluster: ca.pem, cert.pem, key.pem.",
    ),
    _option(
        "--processes-per-job",
        type=click.IntRange(1),
        metavar="K",
        help="Train with K processes, each on a GPU of its own where there are GPUs.",
    ),
    _option("--dashboard", is_flag=True, help="dask's page of what is started here, on loopback."),
)


def cluster_options(function: Callable) -> Callable:
    """Add ``--scheduler``, ``--cluster`` and what belongs to them; ``asked`` reads them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def asked(ctx: click.Context, workspace: Path) -> dict[str, Any]:
    """Fields of ``Execution`` from the options of the command: ``cluster``, ``processes``,
    ``dashboard``; none for a command without them. Raises ReidpipeError for what does not go
    together. workspace: its root.
    """
    given: Mapping[str, Any] = ctx.meta.get(_ASKED, {})
    fields: dict[str, Any] = {}
    if given.get("processes_per_job"):
        fields["processes"] = given["processes_per_job"]
    if given.get("dashboard"):
        fields["dashboard"] = True
    scheduler, kind = given.get("scheduler"), given.get("cluster")
    if scheduler is None and kind is None:
        for name in ("cluster_option", "tls"):
            if given.get(name):
                raise ReidpipeError(
                    f"found --{name.replace('_', '-')} and no cluster; expected it beside "
                    "--cluster slurm or ssh, or --tls beside --scheduler; type one"
                )
        return fields
    if scheduler is not None:
        _check_scheduler(ctx, given)
    # Heavy only from here on: nothing is imported for a command without a cluster.
    from pipeline.artifacts.executors.cluster import Cluster, address_of
    from pipeline.artifacts.executors.settings import read_settings

    if scheduler is not None:
        address_of(scheduler)
    fields["cluster"] = Cluster(
        scheduler=scheduler,
        kind=kind,
        options=read_settings(kind, given["cluster_option"]) if kind else {},
        workers=_typed(ctx, "jobs"),
        tls=given.get("tls"),
        workspace=workspace,
        dashboard=bool(given.get("dashboard")),
    )
    return fields


def _check_scheduler(ctx: click.Context, given: Mapping[str, Any]) -> None:
    """``--scheduler`` is a cluster that somebody else started, as they wanted it."""
    others = {
        "--cluster": given.get("cluster"),
        "--cluster-option": given.get("cluster_option"),
        "--dashboard": given.get("dashboard"),
        "--jobs": _typed(ctx, "jobs"),
    }
    for name, value in others.items():
        if value:
            raise ReidpipeError(
                f"found {name} beside --scheduler, a cluster that runs with the workers it has; "
                "expected one of them; leave the other out"
            )


def _typed(ctx: click.Context, name: str) -> Any:
    """The value of an option as typed on the command line; one of the environment is none."""
    if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
        return None
    return ctx.meta.get(f"pipeline.terminal.commandline.{name}")
