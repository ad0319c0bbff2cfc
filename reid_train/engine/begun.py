"""Of which command the training in a folder is: the options that decide its result, beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import parse_json, read_json, write_json
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.loop import STATE
from reid_train.engine.runtime import Runtime

OPTIONS = "options.json"

log = logging.getLogger(__name__)


def check_begun(folder: Path, options: Mapping[str, Any], runtime: Runtime) -> None:
    """Write the options of a training that begins in ``folder``; where one was begun, compare.

    The loop's own state knows seed, stages and their lengths alone: continued at another rate, or
    found finished, it would be signed with options it was not trained by. options: JSON values, of
    a file its digest. Every process of torchrun asks, the first one writes. Raises ReidpipeError
    where the training that lies there has other options.
    """
    path, plain = folder / OPTIONS, parse_json(json.dumps(dict(options)))
    if not (folder / STATE).is_file():
        if runtime.main:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, plain)
        runtime.barrier()  # nobody writes a state before everybody has looked
        return
    if not path.is_file():
        log.warning("the training in %s is of an older version, which kept no options", folder)
        return
    before = read_json(path)
    if before == plain:
        return
    known = before if isinstance(before, dict) else {}
    names = [name for name in {**known, **plain} if known.get(name) != plain.get(name)]
    told = ", ".join(f"{name} {known.get(name)}, not {plain.get(name)}" for name in names[:3])
    raise ReidpipeError(
        f"found the training of other options in {folder} ({told}); expected one of the same; "
        "type another --out"
    )
