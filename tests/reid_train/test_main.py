"""How the installed command starts: before anything heavy is imported."""

from __future__ import annotations

import os
import sys

import pytest

import cli
from reid_train.__main__ import SPINS, main


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(given, spins, monkeypatch):
    environment = {
        k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    monkeypatch.setattr(os, "environ", {**environment, **given})
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = []
    monkeypatch.setattr(cli, "main", lambda: found.append(os.environ.get("GOMP_SPINCOUNT")))
    main()
    assert found == [spins]
