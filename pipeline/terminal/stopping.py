"""Ctrl-C, ``kill`` and a terminal that is closed: one line and the signal's exit code, whenever
they come. What was being written is taken away, what is made is kept.

From the first moment of the program (``at_once``) nothing needs to be taken back: it leaves where
it is. While a command works (``Listening``) a signal is an exception, so that files and processes
end as they do with any other. Imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

LINE = "Stopped. What is made is kept; the same command continues"
# A group of processes gets Ctrl-C from the terminal and again from their launcher.
AGAIN_SECONDS = 0.5
_RETRY_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """A signal that ends the program; libraries clean up as they do for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """Of a program that a signal ended, as shells count."""
    return 128 + number


def at_once() -> None:
    """From here on a signal leaves with its line and nothing else: called before anything heavy is
    imported. One that the caller's shell has switched off (``nohup``, ``&``) stays off.
    """
    _install(_leave)


class Listening:
    """In its ``with`` block a signal raises ``Terminated`` in the main thread, and ``number`` is
    that signal from then on, whatever a library makes of the exception. A second one, half a second
    later or more, leaves at once. Outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}
        self._hook: Any = None

    def __enter__(self) -> Listening:
        self._before = _install(self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._when = number, time.monotonic()
            raise Terminated(number)
        if time.monotonic() - self._when >= AGAIN_SECONDS:
            _leave(self.number, frame)

    def _unraisable(self, what: Any) -> None:
        """Raised where nobody can catch it, as in ``__del__``: raised again, a moment later."""
        if not isinstance(what.exc_value, Terminated):
            self._hook(what)
            return
        number, self.number = what.exc_value.number, None
        again = threading.Timer(_RETRY_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """What handles signals is the same after the ``with`` block, whatever is imported in it: some
    libraries take them as they are imported (dask-jobqueue: Ctrl-C is exit code 0, without a word).
    """
    alone = threading.current_thread() is threading.main_thread()  # no other may change them
    before = {number: signal.getsignal(number) for number in _signals()} if alone else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _signals() -> list[int]:
    # Under torchrun one of many processes is ended by its launcher, which also says so: it may be
    # waiting for others inside a library, where no exception reaches it.
    names = ["SIGINT", "SIGHUP"] if "RANK" in os.environ else ["SIGINT", "SIGHUP", "SIGTERM"]
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _install(handler: Any) -> dict[int, Any]:
    """Handle what nobody else does; what was there before, by signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    ours = (signal.SIG_DFL, signal.default_int_handler, _leave)
    return {
        number: signal.signal(number, handler)
        for number in _signals()
        if signal.getsignal(number) in ours
    }


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):  # its terminal may be gone
            os.write(2, f"{LINE}\n".encode())
    os._exit(exit_code(number))
