"""Regular expressions of other people, tried in a process of their own: some never come to an end.

Python's ``re`` cannot be stopped from within, and which expressions backtrack without bound on
which names cannot be told by their form.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable

from pipeline.terminal.errors import ReidpipeError

EXAMPLE = r"'(?P<pid>\d+)_c(?P<camid>\d+).*'"
SECONDS = 5.0  # for as many names as there are, and a Python that starts
PER_NAME = 1e-3
_MEMORY = 1 << 30
_TRY = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}))
rule, names = json.load(sys.stdin)
match = re.compile(rule).match
for name in names:
    match(name)
"""


def expression(rule: str, *, called: str = "the naming rule") -> re.Pattern[str]:
    """``rule`` compiled. Raises ReidpipeError for what is no regular expression."""
    try:
        return re.compile(rule)
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        raise ReidpipeError(
            f"found {called} '{rule}': {error or type(error).__name__}; expected a regular "
            f"expression such as {EXAMPLE}; type another"
        ) from error


def check_patience(rule: str, names: Iterable[str], *, called: str = "the naming rule") -> None:
    """Raise ReidpipeError for an expression that does not come to an end with all of ``names`` in
    time, or not in a reasonable memory. One that is no expression passes: who compiles it says so.
    """
    given = list(names)
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY],
            input=json.dumps([rule, given]),
            encoding="ascii",
            capture_output=True,
            timeout=SECONDS + PER_NAME * len(given),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ReidpipeError(
            f"found {called} '{rule}', which takes more than {error.timeout:.0f} s for "
            f"{len(given)} names; expected one without a repeat inside a repeat, such as (a+)+; "
            "type a simpler one"
        ) from error
