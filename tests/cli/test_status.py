"""What ``status`` says of runs whose artifacts are gone, and what a model says of its training."""

from __future__ import annotations

import json
import subprocess
import sys

from pipeline.artifacts.runs import find_run
from pipeline.artifacts.store import Workspace
from tests.cli.conftest import Console


def test_status_says_what_would_be_made(trained: Console):
    (run,) = trained.json("status")["runs"]
    assert (run["state"], run["would_make"]) == ("ready", [])
    assert trained("status").stdout.splitlines()[-1].endswith("ready")
    trained("cache", "rm", "model")
    (run,) = trained.json("status")["runs"]
    assert (run["state"], run["would_make"]) == ("would make 1", ["model"])
    trained("cache", "rm", "images")
    trained("cache", "rm", "index")
    (run,) = trained.json("status")["runs"]
    assert run["state"] == "would make 3"
    assert run["would_make"] == ["index", "images", "model"]
    assert "would make 3" in trained("status").stdout


def test_status_imports_no_torch(trained: Console):
    code = (
        "import sys, cli\n"
        f"try: cli.main(['--workspace', {str(trained.root)!r}, 'status'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'dask'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_model_tells_its_training_figures(trained: Console):
    workspace = Workspace(trained.root)
    model = find_run(workspace, None).model
    about = json.loads((workspace.folder(model) / "model.json").read_text())
    assert {"recipe", "preprocessing", "identity_order", "versions", "metrics"} <= about.keys()
    log = (workspace.folder(model) / "log.jsonl").read_text().splitlines()
    epoch = [line for line in map(json.loads, log) if line["event"] == "epoch"][-1]
    assert about["metrics"] and "loss" in about["metrics"]
    assert all(epoch[name] == value for name, value in about["metrics"].items())
