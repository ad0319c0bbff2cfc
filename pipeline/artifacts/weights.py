"""Published weights are on the machine before any step of a request is executed: a missing file is
told at once, not after hours of packing.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable

from pipeline.artifacts import torchrun
from pipeline.artifacts.kinds import WEIGHTS
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError

log = logging.getLogger(__name__)


def bring(workspace: Workspace, steps: Iterable[Step], *, elsewhere: bool) -> None:
    """Have the published weights that ``steps`` will load, each kind as ``WEIGHTS`` says, in
    the workspace or where their libraries keep them; what is absent is downloaded. Nothing is
    imported for steps that load none. Under torchrun the first process does this.

    elsewhere: the steps are executed on machines that may have weights of their own: what is absent
    here is then a warning.

    Raises ReidpipeError, in one line, for weights that cannot be had or have other bytes.
    """
    if torchrun.rank() > 0:
        return
    groups: dict[str, list[Step]] = {}
    for step in steps:
        if (name := WEIGHTS.get(step.name)) is not None:
            groups.setdefault(name, []).append(step)
    for name, members in groups.items():
        module, _, function = name.partition(":")
        try:
            getattr(importlib.import_module(module), function)(members, workspace.root / "weights")
        except ReidpipeError as error:
            if not elsewhere:
                raise
            log.warning("%s; the workers may have them", error)
