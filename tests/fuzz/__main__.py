"""``python -m tests.fuzz``: generated inputs over every kind, each in a process of its own."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

INPUTS = 6000


def main() -> int:
    """Print a table by kind and every failure with what makes it again; exit code 1 if any."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    asked = _asked()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from tests.fuzz import running

    kinds = asked.kind or list(running.KINDS)
    shares = running.shares(asked.inputs, kinds)
    first, one = asked.first, asked.number
    numbers = {
        kind: range(first, first + n) if one is None else [one] for kind, n in shares.items()
    }
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reidpipe-fuzz-", dir=running.memory()) as place:
        verdicts = []
        for verdict in running.verdicts(Path(place), numbers, asked.seed):
            verdicts.append(verdict)
            if verdict.fault:
                _failed(verdict, asked)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(verdicts)} ")
    _table(verdicts, time.monotonic() - started)
    if asked.out:
        asked.out.write_text("".join(running.as_line(verdict) + "\n" for verdict in verdicts))
    return int(any(verdict.fault for verdict in verdicts))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of all kinds together")
    parser.add_argument("--kind", action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind")
    parser.add_argument("--number", type=int, help="this input alone, of each kind")
    parser.add_argument("--out", type=Path, help="a line of JSON for each input")
    return parser.parse_args()


def _failed(verdict, asked: argparse.Namespace) -> None:
    print(
        f"--- {verdict.fault}: {verdict.about}\n{verdict.what.rstrip()}\n"
        f"again: python -m tests.fuzz --kind {verdict.kind} --number {verdict.number} "
        f"--seed {asked.seed}",
        flush=True,
    )


def _table(verdicts, seconds: float) -> None:
    print(f"{'kind':14} {'inputs':>6} {'refused':>8} {'accepted':>8} {'faults':>6} {'s/input':>8}")
    for kind in dict.fromkeys(v.kind for v in verdicts):
        own = [v for v in verdicts if v.kind == kind]
        refused = sum(bool(v.refused) for v in own)
        faults = Counter(v.fault for v in own if v.fault)
        told = ", ".join(f"{name} {n}" for name, n in faults.items())
        print(
            f"{kind:14} {len(own):6} {refused:8} {len(own) - refused:8} {sum(faults.values()):6} "
            f"{sum(v.seconds for v in own) / len(own):8.3f} {told}"
        )
    faulty = sum(bool(v.fault) for v in verdicts)
    print(f"{len(verdicts)} inputs, {faulty} faults, {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
