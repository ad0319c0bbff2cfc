"""The process that local workers are forked from: it has imported what they need."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver

from pipeline.artifacts.executors.threads import environment

# Variables that it alone has; set to nothing, in a worker, they are as good as absent.
ITS_OWN = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONWARNINGS")
_RUNS = "multiprocessing.forkserver"


def start(modules: list[str]) -> None:
    """Start it; it imports ``modules`` meanwhile.

    Ctrl-C in a terminal reaches all processes of the command: the first one alone decides what
    ends. It looks for modules where this process does.
    """
    multiprocessing.set_forkserver_preload(modules)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with environment(
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
            PYTHONSAFEPATH="1",
            # After SIGKILL its semaphores are tidied up as they should, which is no news.
            PYTHONWARNINGS="ignore::UserWarning:multiprocessing.resource_tracker",
        ):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill() -> None:
    """End it, whether or not it has done with its imports, and all that were forked from it with
    theirs, as by a power cut. The next ``start`` starts another.
    """
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if _RUNS not in " ".join(child.cmdline()):
                continue
            child.suspend()  # it forks no more while they are counted
            for one in [*child.children(recursive=True), child]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
