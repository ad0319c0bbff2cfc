"""A reader of trees and an importer from outside, through their doors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline import plugins
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_step
from pipeline.terminal.errors import ReidpipeError
from reid_train import load_model
from reid_train.exchange.commands import checkpoint_step

TEXT = '''
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.plugins import register


@register.layout("backwards")
def read(reading):
    """Names end in the identity."""
    for path in sorted((reading.root / "all").glob("*.png")):
        reading.rows.append(
            LayoutRow(path=f"all/{path.name}", split="train", pid=int(path.stem[::-1]))
        )


@register.importer("half-size")
def take_apart(state, source, *, input_size=(64, 32)):
    from reid_train.exchange.formats.imported import Imported
    from reid_train.models.deployable import build_model

    spec = {"trunk": "tiny", "options": {}, "mean": [0.5] * 3, "std": [0.5] * 3,
            "input_size": list(input_size)}
    model = build_model(spec)
    model.trunk.load_state_dict({key: 2 * value for key, value in state.items()})
    return Imported(spec, model)
'''
MANIFEST = """
id: backwards
title: Names written backwards
year: 2026
kind: reid
policy: manual
licence: mine
citation: []
notice: ""
layouts:
  - {name: odd, requires: [all], reader: backwards}
"""


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "doors.py"
    file.write_text(TEXT)
    plugins.use([str(file)])
    yield file
    plugins.use([])


def test_a_reader_from_outside_reads_a_tree(given: Path, tmp_path: Path):
    (tmp_path / "backwards.yaml").write_text(MANIFEST)
    (tmp_path / "data" / "all").mkdir(parents=True)
    for name in ("21", "43"):
        Image.new("RGB", (8, 16)).save(tmp_path / "data" / "all" / f"{name}.png")
    dataset = str(tmp_path / "backwards.yaml")
    rows = read_layout(tmp_path / "data", load_manifest(dataset)).rows
    assert [row.pid for row in rows] == [12, 34]
    workspace = Workspace(tmp_path / "workspace")
    prepare_root(dataset, workspace.root, root=tmp_path / "data")
    step = index_step(workspace, dataset)
    assert step.weights == {"layout backwards": plugins.plugins()[0].digest}
    assert step.params["dataset"] == "backwards"
    plugins.use([])
    with pytest.raises(ReidpipeError, match="found layout 'backwards'"):
        load_manifest(dataset)


def test_an_importer_from_outside_takes_a_file_apart(given: Path, tmp_path: Path):
    from reid_train.models.tiny import Tiny

    torch.manual_seed(0)
    state = Tiny(input_size=(64, 32)).state_dict()
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    torch.save({**state, **floats}, tmp_path / "theirs.pth")
    model = load_model(tmp_path / "theirs.pth", format="half-size", input_size=(32, 16))
    assert model.input_size == (32, 16)
    own = dict(model.trunk.state_dict())
    assert all(torch.equal(own[key], 2 * value) for key, value in floats.items())
    step = checkpoint_step(tmp_path / "theirs.pth", "half-size", {})
    assert step.weights["importer half-size"] == plugins.plugins()[0].digest
    with pytest.raises(ReidpipeError, match="did you mean 'input_size'"):
        load_model(tmp_path / "theirs.pth", format="half-size", input_sizes=(32, 16))
    with pytest.raises(ReidpipeError, match="did you mean 'half-size'"):
        load_model(tmp_path / "theirs.pth", format="half-siz")
