"""dask's scheduler and worker without the page that each would serve. Heavy: imported where local
workers are started, and by them.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, Worker


class QuietScheduler(Scheduler):
    """Listens for workers and the client, and for nobody else."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """No page, no metrics: nothing of ours looks at them, and others could."""


class QuietWorker(Worker):
    """Listens for the scheduler and other workers alone."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """As above."""
