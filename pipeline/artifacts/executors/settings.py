"""What may be typed of a cluster that is started: ``--cluster-option NAME=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.options import POSITIVE, TEXT, Option, check_option, read_option

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _hosts(value: Any) -> bool:
    return _texts(value) and all(
        _HOST.fullmatch(host) and not host.startswith("-") for host in value
    )


TEXTS = Option("text, or a list of it", _texts)
HOSTS = Option("names or addresses of machines", _hosts)
# What both kinds have.
_BOTH = {
    "interface": TEXT,
    "host": TEXT,
    "gpus": POSITIVE,
    "wait": POSITIVE,
    "python": TEXT,
    "local_directory": TEXT,
    "death_timeout": POSITIVE,
}
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "slurm": {
        "queue": TEXT,
        "account": TEXT,
        "walltime": TEXT,
        "cores": POSITIVE,
        "memory": TEXT,
        **_BOTH,
        "job_extra_directives": TEXTS,
        "job_script_prologue": TEXTS,
        "job_directives_skip": TEXTS,
        "worker_extra_args": TEXTS,
        "log_directory": TEXT,
        "shebang": TEXT,
        "job_name": TEXT,
    },
    "ssh": {
        "hosts": HOSTS,
        "username": TEXT,
        "port": POSITIVE,
        "client_keys": TEXTS,
        "known_hosts": TEXT,
        "memory_limit": TEXT,
        **_BOTH,
    },
}
NEEDED = {"slurm": ("cores", "memory"), "ssh": ("hosts",)}
_EXAMPLES = {"cores": "8", "memory": "32GB", "hosts": "node1,node2"}


def read_settings(kind: str, texts: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as typed -> options of a cluster of this kind. What takes a list may be typed
    several times, or once as a YAML list; hosts may be joined by commas.

    Raises ReidpipeError for a name that is not known, a value that does not fit, a single value
    typed twice, and for a value without which nothing can be started.
    """
    known, of = OPTIONS[kind], f"--cluster {kind}"
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, written = text.partition("=")
        option = known.get(name)
        if option in (TEXTS, HOSTS) and separator:
            value = _listed(written, commas=option is HOSTS)
            check_option(name, value, known, of=of)
            found[name] = [*found.get(name, []), *value]
            continue
        if name in found:
            raise ReidpipeError(
                f"found {name} twice for {of}; expected it once; leave one --cluster-option out"
            )
        if option is TEXT and separator:
            # As written: YAML would make seconds of 1:00:00 and a number of partition 7.
            if not written or not written.isprintable():
                raise ReidpipeError(
                    f"found {name}={written!r} for {of}; expected a word; type {name}=VALUE"
                )
            found[name] = written
        else:
            name, found[name] = read_option(text, known, of=of)
    for name in NEEDED[kind]:
        if name not in found:
            raise ReidpipeError(
                f"found no {name} for {of}; expected it; type --cluster-option "
                f"{name}={_EXAMPLES[name]}"
            )
    return found


def _listed(written: str, *, commas: bool) -> Any:
    import yaml

    from pipeline.terminal.yaml_text import read_yaml

    if not written.startswith("["):
        parts = written.split(",") if commas else [written]
        return [part.strip() for part in parts] if written.isprintable() else written
    try:
        return read_yaml(written)
    except yaml.YAMLError:
        return written
