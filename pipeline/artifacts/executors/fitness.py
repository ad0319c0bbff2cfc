"""Whether the workers of a cluster can do this program's work: looked at before there is any."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.kinds import BUILT_IN, KINDS
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# Another version of these speaks another language, or cannot read the code that is sent.
_SPOKEN = ("python", "dask", "distributed")
# Another version of these can give other numbers; said, and left to the user.
_COMPUTING = ("torch", "numpy")
_SEEN, _OLD_SECONDS = ".seen-by-workers-", 86_400.0


def check(client: Client, workspace: Path | None) -> None:
    """Raise ReidpipeError unless scheduler and workers have this program in this version, the same
    Python and dask, and see ``workspace`` under the same path; the line names one that does not.
    """
    found: Any = client.get_versions()
    _check_spoken("the scheduler", _spoken(found["scheduler"]), _spoken(found["client"]))
    for error in unfit(client, workspace, list(found["workers"])).values():
        raise error


def unfit(
    client: Client, workspace: Path | None, addresses: Sequence[str]
) -> dict[str, ReidpipeError]:
    """Those of the workers at ``addresses`` that cannot do this program's work, and why not."""
    found: Any = client.get_versions()
    mine = _spoken(found["client"])
    refused: dict[str, ReidpipeError] = {}

    def look(address: str, check: Callable[[], None]) -> None:
        try:
            check()
        except ReidpipeError as error:
            refused[address] = error

    for address in addresses:
        theirs = _spoken(found["workers"].get(address))
        look(address, partial(_check_spoken, f"worker {address}", theirs, mine))
    # Those of another language would not understand what is asked.
    asked = [address for address in addresses if address not in refused]
    with _token(workspace) as (path, text):
        run: Any = client.run
        answers: dict[str, Any] = run(
            looked_at_there(), str(path or ""), workers=asked, on_error="return"
        )
    for address in asked:
        look(address, partial(_check_answer, address, answers.get(address), workspace, text))
    return refused


def _spoken(info: Mapping[str, Any] | None) -> dict[str, str]:
    packages = (info or {}).get("packages", {})
    found = {name: str(packages.get(name, "missing")) for name in _SPOKEN}
    return {**found, "python": ".".join(found["python"].split(".")[:2])}


def _check_spoken(who: str, theirs: Mapping[str, str], mine: Mapping[str, str]) -> None:
    for name in _SPOKEN:
        if theirs[name] != mine[name]:
            raise ReidpipeError(
                f"found {name} {theirs[name]} at {who} and {mine[name]} here; expected the same; "
                "start it with this environment's dask"
            )


def _check_answer(address: str, answer: Any, workspace: Path | None, text: str) -> None:
    if not isinstance(answer, dict):
        raise ReidpipeError(
            f"found worker {address}, which cannot say what it has "
            f"({type(answer).__name__}); expected one that was started in this environment; "
            "start it again there"
        ) from (answer if isinstance(answer, BaseException) else None)
    who, python = f"worker {address} on {answer['host']}", answer["executable"]
    if answer["kinds"] is None:
        raise ReidpipeError(
            f"found no package reidpipe at {who} ({python}); expected this one; install it "
            "there, or start the worker with this environment's dask"
        )
    mine = reidpipe_here()
    theirs = {"reidpipe": answer["versions"].get("reidpipe"), **answer["kinds"]}
    for name in mine.keys() | theirs.keys():
        if theirs.get(name) != mine.get(name):
            raise ReidpipeError(
                f"found another reidpipe at {who} ({python}: {name} of version "
                f"{theirs.get(name)}, here {mine.get(name)}); expected the same; install this one "
                "there, or start the worker with this environment's dask"
            )
    if workspace is not None and answer["text"] != text:
        what = "no workspace" if answer["text"] is None else "another folder than this workspace"
        raise ReidpipeError(
            f"found {what} {workspace} at {who}; expected the same folder under the same path; "
            "type --workspace DIR with one on the shared file system"
        )
    if workspace is not None and not answer["writable"]:
        raise ReidpipeError(
            f"found workspace {workspace} closed to {who}; expected a folder it may write; "
            "start the worker as the user who owns it"
        )
    here = _computing()
    for name in _COMPUTING:
        if answer["versions"].get(name) != here.get(name):
            log.warning(
                "%s has %s %s, here is %s: figures can differ in their last digits",
                *(who, name, answer["versions"].get(name), here.get(name)),
            )


def reidpipe_here() -> dict[str, Any]:
    """The version of this program, and that of each kind of step, which stands in keys."""
    return {"reidpipe": _versions("reidpipe").get("reidpipe"), **_kinds()}


def _kinds() -> dict[str, int]:
    return {name: KINDS[name].version for name in BUILT_IN}


def _computing() -> dict[str, str]:
    return _versions(*_COMPUTING)


def _versions(*names: str) -> dict[str, str]:
    import importlib.metadata

    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def _token(workspace: Path | None) -> Iterator[tuple[Path | None, str]]:
    """A file in ``workspace`` whose text only who sees the same folder can know."""
    if workspace is None:
        yield None, ""
        return
    text = secrets.token_hex(16)
    path = workspace / f"{_SEEN}{secrets.token_hex(8)}"
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        for left in workspace.glob(f"{_SEEN}*"):  # by commands that were killed
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _OLD_SECONDS:
                    left.unlink()
        path.write_text(text)
        yield path, text
    finally:
        path.unlink(missing_ok=True)


def looked_at_there() -> Callable[[str], dict[str, Any]]:
    """What a worker calls to say what it has. A function in a function travels as its code: the
    worker need not have our package, nor have ours where another of that name is.
    """
    first = ours_first()

    def look(token: str) -> dict[str, Any]:
        import importlib.metadata
        import os
        import socket
        import sys
        from pathlib import Path

        first()
        versions = {}
        for name in ("reidpipe", "torch", "numpy"):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        try:
            from pipeline.artifacts.kinds import BUILT_IN, KINDS

            kinds = {name: KINDS[name].version for name in BUILT_IN}
        except (ImportError, AttributeError):
            kinds = None
        try:
            text = Path(token).read_text() if token else None
        except (OSError, ValueError):
            text = None
        return {
            "host": socket.gethostname(),
            "executable": sys.executable,
            "versions": versions,
            "kinds": kinds,
            "text": text,
            "writable": bool(token) and os.access(Path(token).parent, os.W_OK),
        }

    return look


def ours_first() -> Callable[[], None]:
    """What a worker calls before it looks for any module of ours: where it was started may lie
    another ``pipeline``. The folder of this very package is taken where the worker sees it, else
    that of the one it has installed; nothing is imported.
    """
    here = str(Path(__file__).absolute().parents[3])

    def first() -> None:
        import importlib.util
        import sys
        from pathlib import Path

        # The command's package, as reid_train.__main__ has it.
        folder = here
        if not (Path(folder) / "reid_train" / "__main__.py").is_file():
            found = importlib.util.find_spec("reid_train")
            if found is None or found.origin is None:
                return
            folder = str(Path(found.origin).parent.parent)
        if sys.path[0] != folder:
            sys.path.insert(0, folder)

    return first
