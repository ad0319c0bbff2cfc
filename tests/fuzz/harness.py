"""One input in one child process: forked from a process that has imported everything, limited in
time and memory, and judged by what it printed, left and touched.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import LONGEST, one_line
from tests.fuzz.case import Case, Maker, Place, generator

CPU_SECONDS = 10  # of each command
WALL_SECONDS = 120  # of an input; a busy machine is slow, not wrong
MEMORY = 2 << 30  # beyond what the parent has
LARGEST_FILE = 256 << 20
CANARIES = ("home", "cwd", "sibling", "given")


@dataclass(frozen=True)
class Verdict:
    """What became of an input. fault: '' or the kind of failure, of ``FAULTS``; what: its text."""

    kind: str
    number: int
    about: str
    refused: int
    accepted: int
    fault: str
    what: str
    seconds: float


FAULTS = ("traceback", "hang", "crash", "outside", "executed", "wrong", "line", "generator")


def ready() -> None:
    """To be called once, after the imports and before the first fork."""
    gc.collect()
    gc.freeze()
    # Commands start processes by the cores there are; an input is one process.
    os.sched_getaffinity = lambda _pid: {0}  # type: ignore[assignment]
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


def in_child(work: Callable[[], Any], *, wall: float, limited: bool) -> tuple[Any, int]:
    """What ``work`` returns, as JSON, from a forked process; None and the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            os.setsid()
            if limited:
                _limit()
            with os.fdopen(writing, "w") as out:
                json.dump(work(), out)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent may go on here
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    return _await(child, reading, wall)


def _await(child: int, reading: int, wall: float) -> tuple[Any, int]:
    import select

    end, data = time.monotonic() + wall, b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                part = pipe.read(1 << 16)
                if not part:
                    break
                data += part
        else:
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it may have started
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return (json.loads(data) if data and not number else None), number


def _limit() -> None:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _more_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def digests(folder: Path) -> dict[str, str]:
    """Path -> what lies there, of everything below a folder, links not followed."""
    found = {}
    for place, folders, names in os.walk(os.fsencode(folder)):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            told = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            if os.path.islink(path):
                found[told] = "link " + os.fsdecode(os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:  # noqa: PTH123
                    found[told] = hashlib.sha256(file.read()).hexdigest()
            else:
                found[told] = "folder" if os.path.isdir(path) else "other"
    return found


def attempt(kind: str, number: int, seed: int, maker: Maker, pristine: Path, root: Path) -> Verdict:
    """Make one input, run its commands and judge."""
    started = time.monotonic()
    place = Place(root / f"{kind}-{number}", pristine)
    for name in (*CANARIES, "workspace"):
        (place.root / name).mkdir(parents=True)
        if name in ("home", "cwd", "sibling"):
            (place.root / name / "canary.txt").write_text(f"{name}: untouched\n")
    told, ended = in_child(
        lambda: _tried(place, maker, kind, number, seed), wall=WALL_SECONDS, limited=True
    )
    seconds = time.monotonic() - started
    about_file = place.root / "about"
    about = about_file.read_text(errors="replace") if about_file.is_file() else ""
    if told is None:
        fault = "hang" if ended in (signal.SIGXCPU, signal.SIGKILL) else "crash"
        errors = (place.root / "stderr").read_bytes().decode(errors="replace")[-3000:]
        told = {"refused": 0, "accepted": 0, "fault": fault, "what": f"signal {ended}\n{errors}"}
    if not told["fault"] and place.executed.exists():
        told |= {"fault": "executed", "what": "a file that content alone would make is there"}
    verdict = Verdict(kind, number, about, seconds=round(seconds, 3), **told)
    _cleared(place.root)
    return verdict


def _cleared(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _tried(place: Place, maker: Maker, kind: str, number: int, seed: int) -> dict[str, Any]:
    os.environ.update(HOME=str(place.home), XDG_CACHE_HOME=str(place.home / ".cache"))
    os.environ["MPLCONFIGDIR"] = str(place.root)
    os.environ["FUZZ_EXECUTED"] = str(place.executed)
    os.chdir(place.cwd)
    signal.alarm(0)
    log = os.open(place.root / "stderr", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 2)
    faulthandler.enable(log)
    try:
        case = maker(generator(kind, number, seed), place)
    except BaseException:  # noqa: BLE001
        return _told(0, 0, "generator", traceback.format_exc())
    (place.root / "about").write_text(one_line(case.about))
    before = {name: digests(place.root / name) for name in CANARIES}
    found = _judged(place, case)
    if not found["fault"]:
        for name in CANARIES:
            after = digests(place.root / name)
            if after != before[name]:
                changed = sorted(dict(set(after.items()) ^ set(before[name].items())))
                return found | {"fault": "outside", "what": f"changed: {name}/{changed[:5]}"}
    return found


def _told(refused: int, accepted: int, fault: str = "", what: str = "") -> dict[str, Any]:
    return {"refused": refused, "accepted": accepted, "fault": fault, "what": what[-6000:]}


def _judged(place: Place, case: Case) -> dict[str, Any]:
    refused = accepted = 0
    printed: list[str | None] = []
    if case.read is not None:
        _more_time()
        try:
            case.read()
            accepted += 1
        except ReidpipeError as error:
            refused += 1
            if "\n" in str(error):
                return _told(refused, accepted, "line", f"of several lines: {error}")
        except AssertionError:
            return _told(refused, accepted, "wrong", traceback.format_exc())
        except BaseException:  # noqa: BLE001
            return _told(refused, accepted, "traceback", traceback.format_exc())
    for words in case.lines:
        _more_time()
        code, out, err, trace = typed(place.workspace, [str(word) for word in words])
        line = " ".join(map(str, words))
        if trace:
            return _told(refused, accepted, "traceback", f"{line}\n{trace}")
        fault = _lines_fault(code, out, err)
        if fault:
            return _told(refused, accepted, "line", f"{line}\n{fault}")
        refused, accepted = refused + (code == 2), accepted + (code != 2)
        printed.append(None if code == 2 else out)
    if case.after is not None:
        _more_time()
        try:
            wrong = case.after(printed)
        except Exception:  # noqa: BLE001
            return _told(refused, accepted, "wrong", traceback.format_exc())
        if wrong:
            return _told(refused, accepted, "wrong", wrong)
    return _told(refused, accepted)


def typed(workspace: Path, words: list[str]) -> tuple[int, str, str, str]:
    """Exit code, stdout, stderr and traceback of ``reidpipe WORDS``, in this process."""
    import cli

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    kept, trace, code = (sys.stdout, sys.stderr), "", 0
    sys.stdout, sys.stderr = out, err
    try:
        cli.main(args=["--workspace", str(workspace), *words], prog_name="reidpipe")
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:  # noqa: BLE001
        trace = traceback.format_exc()
    finally:
        sys.stdout, sys.stderr = kept
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return code, texts[0], texts[1], trace


def _lines_fault(code: int, out: str, err: str) -> str:
    if code not in (0, 1, 2):
        return f"exit code {code}"
    lines = err.splitlines()
    if code == 2 and not (lines and lines[-1].startswith("Error: ")):
        return f"no line of the mistake: {err[-500:]}"
    if "Traceback (most recent call last)" in err:
        return err
    for line in lines:
        if len(line) > LONGEST + 20:
            return f"a line of {len(line)} characters: {line[:200]}"
    for char in out + err:
        if ord(char) < 32 and char not in "\n\t" or 0x7F <= ord(char) < 0xA0:
            return f"a control character {char!r} on the terminal"
    return ""


def as_line(verdict: Verdict) -> str:
    """A verdict as JSON."""
    return json.dumps(asdict(verdict))
