"""A collective step in several processes of this machine, each with a GPU of its own where there
are GPUs: torchrun, started by whatever process executes the step, such as a worker of a cluster.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Execution, Workspace

_TASK, _SAID, _ERROR = "task.json", "said", "error.json"
_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0


def make_together(workspace: Workspace, step: Step, execution: Execution) -> None:
    """Make ``step`` in ``execution.processes`` processes, which end with this one, however it dies.
    What they say on stderr is said here.

    Raises what the step raised: a ReidpipeError or an OSError as such, all else as a RuntimeError
    with its traceback; a ReidpipeError when the processes were killed.
    """
    from pipeline import plugins

    with tempfile.TemporaryDirectory(prefix="reidpipe-ranks-") as name:
        folder = Path(name)
        task = {
            "workspace": str(workspace.root),
            "step": step.plain(),
            "execution": _plain(execution),
            "plugins": [plugin.reference for plugin in plugins.given()],
        }
        (folder / _TASK).write_text(json.dumps(task, default=str))
        (folder / _SAID).touch()
        with _held(folder / _TASK):
            code = _launched(folder, execution.processes)
        if (folder / _ERROR).is_file():
            raise _error_of(json.loads((folder / _ERROR).read_text()))
        if code:
            last = (folder / "launcher.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise ReidpipeError(
                f"found the {execution.processes} processes of {step.name} {step.key[:8]} ended "
                f"from outside ({''.join(last)[:150] or code}); expected them to finish; type the "
                "command again: what is saved is kept"
            )


def _launched(folder: Path, processes: int) -> int:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    words += ["-m", __name__, str(folder)]
    here = str(Path(__file__).absolute().parents[3])
    paths = [here, *(path for path in sys.path if path and path != here)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # where this was started may lie another ``pipeline``
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    with (
        (folder / "launcher.log").open("wb") as log,
        (folder / _SAID).open(errors="replace") as said,
    ):
        child = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            while child.poll() is None:
                time.sleep(_LOOK_SECONDS)
                sys.stderr.write(said.read())
        finally:
            if child.poll() is None:
                child.terminate()  # the launcher hands it on
                try:
                    child.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        sys.stderr.write(said.read())
    return child.returncode


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock that dies with this process, by which its ranks know that it lives."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _plain(execution: Execution) -> dict[str, Any]:
    alone = {"processes": 1, "jobs": 1, "cluster": None, "scheduler": None, "dashboard": False}
    return asdict(replace(execution, **alone, progress=False))


def _execution(value: dict[str, Any]) -> Execution:
    from pipeline.artifacts.store import Execution
    from pipeline.artifacts.validation import Keep, Validation
    from pipeline.terminal.watching import Watching

    watching, validation = value["watching"], value["validation"]
    lists = {name: tuple(watching[name]) for name in ("trackers", "runs")}
    if validation is not None:
        paths = {name: Path(validation[name]) for name in ("index", "images")}
        validation = Validation(**{**validation, **paths})
    return Execution(
        **{
            **value,
            "watching": Watching(**{**watching, **lists}),
            "validation": validation,
            "keep": Keep(**value["keep"]),
        }
    )


def _error_of(told: dict[str, Any]) -> Exception:
    if told["mistake"] is not None:
        return ReidpipeError(told["mistake"])
    if told["number"] is not None:
        return OSError(told["number"], told["reason"], told["file"])
    return RuntimeError(f"in a process of torchrun:\n{told['text']}")


def _tell(folder: Path, error: Exception) -> None:
    """The first rank that fails says why; the others fail because of it."""
    known = error if isinstance(error, OSError) else None
    told = {
        "mistake": str(error) if isinstance(error, ReidpipeError) else None,
        "number": known.errno if known else None,
        "reason": known.strerror if known else None,
        "file": str(known.filename) if known and known.filename else None,
        "text": "".join(traceback.format_exception(error)),
    }
    try:
        with (folder / _ERROR).open("x") as file:
            json.dump(told, file)
    except FileExistsError:
        return


def _end_with(task: Path) -> None:
    def watch() -> None:
        while True:
            try:
                with task.open() as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os._exit(1)
            except BlockingIOError:
                time.sleep(_LOOK_SECONDS)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, name="maker-watch", daemon=True).start()


def main(folder: Path) -> int:
    """One rank of torchrun. Returns the exit code."""
    from pipeline import plugins
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace

    _end_with(folder / _TASK)
    with (folder / _SAID).open("ab") as said:
        os.dup2(said.fileno(), 2)
    task = json.loads((folder / _TASK).read_text())
    try:
        plugins.ensure(task["plugins"])
        step = Step.from_plain(task["step"])
        Workspace(task["workspace"]).make(step, _execution(task["execution"]))
    except Exception as error:
        _tell(folder, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
