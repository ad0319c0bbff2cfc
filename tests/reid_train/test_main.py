"""How the installed command starts: before anything heavy is imported."""

from __future__ import annotations

import sys

import pytest

import cli
from reid_train.__main__ import main


def test_the_command_is_called_on_modules_of_its_own(monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(cli, "main", lambda: called.append(sys.path[0]))
    main()
    assert called == [sys.path[0]] and cli.__file__.startswith(called[0])
