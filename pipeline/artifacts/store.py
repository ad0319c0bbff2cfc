"""Artifacts on disk: ``artifacts/<step>/<key>/``, complete once ``artifact.json`` is there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import plugins
from pipeline.artifacts import atomic, attempts, torchrun
from pipeline.artifacts.atomic import sha256_file, write_json
from pipeline.artifacts.checked import as_made, check_artifact, check_inputs, forget_checks
from pipeline.artifacts.executors.threads import MACHINES, computing_with, threads_of
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.locks import Held, Lease, drop_dead_leases, holding, is_held
from pipeline.artifacts.mark import (
    MARK,
    described,
    drop_temporary,
    files_of,
    is_marked,
    leads_out,
    mark_of,
    read_mark,
)
from pipeline.artifacts.queue import sweep
from pipeline.artifacts.running import SILENT, Running, at_work, forget
from pipeline.artifacts.steps import Job, Step, in_order
from pipeline.artifacts.validation import LAST_ONLY, Keep, Validation
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.watching import QUIET, Watching

if TYPE_CHECKING:
    from pipeline.artifacts.executors.cluster import Cluster

ROOT_VARIABLE = "REIDPIPE_WORKSPACE"
DEFAULT_ROOT = Path("reid-workspace")
# Of an artifact that is being deleted.
REMOVED = ".removed"
_TRACKED = ("reidpipe", "torch", "numpy", "pillow", "h5py", "open_clip_torch", "scikit-learn")


@dataclass(frozen=True)
class Execution:
    """How steps are executed; nothing here changes a key. Fields as in ``Job``.

    jobs: steps made side by side, each in a process of its own; None: as many as this machine has
    room for. cluster: makes the steps, in place of this machine.
    processes: of a collective step, as by torchrun. dashboard: dask's page of local workers.
    apart: this process makes steps for another one, which tells of them: what is printed goes into
    the logs of the steps alone.
    """

    workers: int = 1
    scheduler: str | None = None
    device: str = "auto"
    progress: bool = False
    watching: Watching = QUIET
    validation: Validation | None = None
    keep: Keep = LAST_ONLY
    jobs: int | None = 1
    threads: int | None = None  # what this machine has in the workspace
    cluster: Cluster | None = None
    processes: int = 1
    dashboard: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Artifact:
    """A folder below ``artifacts/`` as found on disk."""

    step: str
    key: str
    folder: Path

    def mark(self) -> dict[str, Any] | None:
        """The content of its last file, ``artifact.json``, which makes it complete; None where it
        has not been written or cannot be read.
        """
        return mark_of(self.folder)

    @property
    def complete(self) -> bool:
        """Whether it has its mark."""
        return self.mark() is not None

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in files_of(self.folder))


class Workspace:
    """A folder with everything ``reidpipe`` made: artifacts, runs, weights, reports.

    strict: whether every byte of an artifact, and of the images an index names, is looked at before
    the artifact is used (``check_reused``).
    """

    def __init__(self, root: Path | str, *, strict: bool = False) -> None:
        self.root = Path(root).resolve()
        self.strict = strict
        self._sound: set[str] = set()

    @classmethod
    def usual(cls, root: Path | str | None = None) -> Workspace:
        """The workspace at ``root``, by default where commands have theirs."""
        return cls(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)

    def folder(self, step: Step) -> Path:
        """Where the step's artifact lives, made or not."""
        return self.root / "artifacts" / step.name / step.key

    def complete(self, step: Step) -> bool:
        """Whether the step's artifact exists in full, with a mark that can be read."""
        return is_marked(self.folder(step))

    def provenance(self, step: Step) -> dict[str, Any]:
        """``artifact.json`` of a complete step."""
        return read_mark(self.folder(step))

    def make(self, step: Step, execution: Execution) -> Path:
        """Execute ``step`` unless its artifact is complete; its inputs must be complete.

        An operating-system lock, which dies with its holder, keeps two processes from making
        the same artifact: the second waits and then finds it made. Under torchrun the first
        process does this. The others join a collective step once the first has the lock and calls
        them (it may find the artifact made by somebody else), and await the rest.
        """
        folder = self.folder(step)
        if execution.processes > 1 and step.kind.collective and not self.complete(step):
            if "RANK" in os.environ:
                raise ReidpipeError(
                    "found --processes-per-job under torchrun, which has processes of its own; "
                    "expected one of them; leave one out"
                )
            from pipeline.artifacts.executors.ranks import make_together

            make_together(self, step, execution)
            return folder
        if torchrun.rank() > 0:
            # torchrun ends this process when the first one fails.
            while not self.complete(step):
                if step.kind.collective and torchrun.called(folder):
                    self._work(step, execution)
                    break
                time.sleep(0.1)
            while not self.complete(step):
                time.sleep(0.1)
            return folder
        with self._lock(step.name, step.key) as lease:
            if self.complete(step):
                return folder
            if folder.exists() and not step.kind.resumable:
                attempts.emptied(folder)
            folder.mkdir(parents=True, exist_ok=True)
            drop_temporary(folder)
            started = time.time()
            with (
                at_work(folder, step) as running,
                attempts.recorded(folder, apart=execution.apart, killed=running.killed),
            ):
                check_files(step)
                check_inputs(self.folder(source) for source in step.inputs.values())
                self._check_usable(step)
                plugins.require(step.weights, f"{step.name} {step.key[:8]}")
                with torchrun.calling(folder) if step.kind.collective else contextlib.nullcontext():
                    summary = self._work(step, execution, running)
                mark = _provenance(step, folder, summary, started)
            lease.check()
            write_json(folder / MARK, mark)
        return folder

    def _check_usable(self, step: Step) -> None:
        for source in step.inputs.values():
            # A kept epoch is taken from its model though the index is not there any more.
            if source.kind.usable and self.complete(source):
                module, _, function = source.kind.usable.partition(":")
                getattr(importlib.import_module(module), function)(self.folder(source), self.root)

    def _work(self, step: Step, execution: Execution, running: Running = SILENT) -> dict[str, Any]:
        job = self._job(step, execution, running)
        with computing_with(job.threads):
            return step.resolve()(job)

    def _job(self, step: Step, execution: Execution, running: Running = SILENT) -> Job:
        return Job(
            folder=self.folder(step),
            params=in_order(step.params),
            inputs={name: self.folder(step.inputs[name]) for name in sorted(step.inputs)},
            workspace=self.root,
            weights=dict(sorted(step.weights.items())),
            files={name: Path(step.files[name]) for name in sorted(step.files)},
            workers=execution.workers,
            scheduler=execution.scheduler,
            device=execution.device,
            progress=execution.progress,
            watching=execution.watching,
            validation=execution.validation,
            keep=execution.keep,
            threads=execution.threads or threads_of(self.root),
            running=running,
        )

    def _lock(
        self, name: str, key: str, *, wait: bool = True
    ) -> contextlib.AbstractContextManager[Lease]:
        path = self.root / "artifacts" / name / f"{key}.lock"
        return holding(path, f"{name} {key} is being made", wait=wait)

    def being_made(self, artifact: Artifact) -> bool:
        """Whether a process is at work on it now."""
        return is_held(artifact.folder.parent / f"{artifact.key}.lock")

    def artifacts(self) -> list[Artifact]:
        """Everything below ``artifacts/``, complete or left behind, ordered by step and key."""
        folders = sorted((self.root / "artifacts").glob("*/[!.]*/"))
        return [Artifact(folder.parent.name, folder.name, folder) for folder in folders]

    def find(self, reference: str) -> list[Artifact]:
        """Artifacts whose step is ``reference`` or whose key starts with it (4 digits at least)."""
        return [
            artifact
            for artifact in self.artifacts()
            if artifact.step == reference
            or (len(reference) >= 4 and artifact.key.startswith(reference))
        ]

    def remove(self, artifact: Artifact, *, unfinished: bool = False) -> bool:
        """Delete an artifact that nobody is at work on; whether that was so. It is renamed first: a
        kill leaves nothing that a worker would take for its own files. One that is a link is taken
        away as a link: what it leads to belongs to somebody else.

        unfinished: only where it is still unfinished when nobody is.
        """
        with contextlib.suppress(Held), self._lock(artifact.step, artifact.key, wait=False):
            if unfinished and artifact.complete:
                return False
            self._remove(artifact)
            return True
        return False

    def _remove(self, artifact: Artifact) -> None:
        folder = artifact.folder
        forget(folder)
        if folder.is_symlink():
            folder.unlink()
            return
        removed = folder.with_name(f".{folder.name}{REMOVED}")
        if removed.exists():
            shutil.rmtree(removed)
        folder.rename(removed)
        atomic.flush_folder(folder.parent)
        shutil.rmtree(removed)
        forget_checks(folder)

    def damage(self, artifact: Artifact) -> list[str]:
        """Files of an artifact that are missing, cut or changed, relative to its folder; of one
        whose mark cannot be read the mark, and of an unfinished one none.
        """
        mark = artifact.mark()
        if mark is None:
            return [MARK] if (artifact.folder / MARK).is_file() else []
        return [
            name
            for name, expected in sorted(mark["files"].items())
            if described(artifact.folder / name) != expected
        ]

    def repair(self, artifact: Artifact, damaged: list[str]) -> bool:
        """Take damaged files away so that the next request makes them again; whether that was done:
        not where a process is at work on the artifact, or has made it anew.

        An artifact of separate files (label maps) loses those files alone; any other is removed
        whole, since its worker takes what it finds for finished, and so is one whose mark, which
        knows what its files were, cannot be read.
        """
        kind, folder = KINDS.get(artifact.step), artifact.folder
        with contextlib.suppress(Held), self._lock(artifact.step, artifact.key, wait=False):
            if self.damage(artifact) != damaged:
                return False
            whole = damaged == [MARK] or kind is None or not kind.separate
            if whole or any(leads_out(folder, name) for name in damaged):
                self._remove(artifact)
                return True
            # While it has its mark, nobody takes the files that are left for all of it.
            for name in damaged:
                (folder / name).unlink(missing_ok=True)
            atomic.flush_folder(folder)
            (folder / MARK).unlink()
            return True
        return False

    def tidy(self, steps: Iterable[Step]) -> None:
        """Remove what killed commands left beside the artifacts of ``steps``, in the queue, among
        the machines and of any artifact that they deleted. Who makes an artifact tidies beside it;
        beside those that are reused nobody else would.
        """
        for left in (self.root / "artifacts").glob(f"*/.*{REMOVED}"):
            key = left.name.removeprefix(".").removesuffix(REMOVED)
            with (
                contextlib.suppress(Held, OSError),
                self._lock(left.parent.name, key, wait=False),
            ):
                shutil.rmtree(left)
        sweep(self)
        drop_dead_leases(self.root / MACHINES)
        keys: dict[str, set[str]] = {}
        for step in steps:
            keys.setdefault(step.name, set()).update((step.key, f"{step.key}.shards"))
        for name, locks in keys.items():
            drop_dead_leases(self.root / "artifacts" / name, locks)

    def check_reused(self, steps: Iterable[Step]) -> None:
        """Where the workspace is strict: raise ReidpipeError, which names it, for the first file of
        these steps' artifacts, or image of an index among them, that is not as it was made.
        Artifacts that are not there are not used.
        """
        if not self.strict:
            return
        for step in steps:
            if step.key in self._sound or not self.complete(step):
                continue
            check_artifact(self.folder(step), step.kind.outside)
            self._sound.add(step.key)

    def writable(self) -> None:
        """Fail early, in one line, when the workspace cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReidpipeError(
                f"workspace {self.root} cannot be made ({error.strerror}); expected a folder you "
                "may write; type --workspace DIR or set REIDPIPE_WORKSPACE"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise ReidpipeError(
                f"workspace {self.root} cannot be written; expected a folder you may write; "
                "type --workspace DIR or set REIDPIPE_WORKSPACE"
            )


def check_files(step: Step) -> None:
    """Raise ReidpipeError when a file a step loads has other bytes than its key names: it was
    exchanged since the step was asked for.
    """
    for name, path in step.files.items():
        expected = step.weights.get(name)
        if expected is None or Path(path).is_dir():
            continue  # a folder's files have digests under names of their own
        found = sha256_file(path) if Path(path).is_file() else None
        if found != expected:
            raise ReidpipeError(
                f"found {'other bytes in' if found else 'no file'} {path}, which {step.name} "
                f"{step.key[:8]} loads; expected SHA-256 {expected[:12]}...; put that file back, "
                "or type the command again with the file to use"
            )


def _provenance(step: Step, folder: Path, summary: dict, started: float) -> dict[str, Any]:
    return {
        **step.plain(),
        "key": step.key,
        "summary": summary,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "versions": versions(),
        "files": {path.relative_to(folder).as_posix(): as_made(path) for path in files_of(folder)},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number, without importing them."""
    found = {"python": platform.python_version()}
    for package in _TRACKED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
