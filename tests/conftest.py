"""Fixtures every test may use; no test reaches the network."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.golden import fill_module, shared_folder

PROJECT = Path(__file__).resolve().parent.parent
# Kernels of a lesser processor, asked of torch, are asked of oneDNN too: it looks at the processor.
if os.environ.get("ATEN_CPU_CAPABILITY") in ("avx2", "default"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
# A suite in the background ignores what a terminal sends, and so would all that it starts.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
# Tests that want worker processes say so: --jobs N.
os.environ.setdefault("REIDPIPE_JOBS", "1")
# How long an example takes is no property: a busy machine is slow, not wrong.
settings.register_profile("reidpipe", deadline=None)
settings.load_profile("reidpipe")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with recorded outputs (``golden/``) and real images (``data/``); absent: skip."""
    folder = shared_folder()
    if not (folder / "golden").is_dir():
        pytest.skip("recorded outputs absent: set REIDPIPE_SHARED to the folder with golden/")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """``golden("eval_normal.npz")``: the recorded arrays of one file."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(shared / "golden" / name) as file:
            return {key: file[key] for key in file.files}

    return read


@pytest.fixture(scope="session")
def fill(shared: Path) -> Any:
    """The module that rebuilds recorded checkpoints: ``fill``, ``image``, ``state_dict``."""
    return fill_module(shared / "golden")


@pytest.fixture(scope="session")
def golden_state(shared: Path, fill: Any) -> Callable[[str], dict[str, np.ndarray]]:
    """``golden_state("schp_lip.keys.json")``: the rebuilt checkpoint as numpy arrays."""
    return lambda name: fill.state_dict(shared / "golden" / name)


@pytest.fixture(scope="session")
def col780(shared: Path) -> Path:
    """The real COL780 images; absent: skip."""
    root = shared / "data" / "col780"
    if not root.is_dir():
        pytest.skip("real images absent: set REIDPIPE_SHARED to the folder with data/col780")
    return root


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave the machine in no test; loopback stays open for local servers."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        local = self.family == socket.AF_UNIX or str(host) in {"127.0.0.1", "::1", "localhost"}
        if not local:
            raise RuntimeError(f"a test tried to reach the network at {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests by name on machines without one, without importing torch for the others.

    Raises UsageError for a test of another name in every process: workers that share the tests
    would find none of each other's.
    """
    if odd := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"found an address in {odd[0]}; expected ids=[...] beside it")
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
