"""Models with a table of cameras, as people meet them: on other sets, on own pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_train import load_model
from reid_train.models.clip.visual import ClipVit
from tests.cli.conftest import Console

IMPORT = ("--from", "clip-reid", "--set", "input_size=[64,32]", "--set", "stride=16")
OPTIONS = "{width: 64, layers: 1, heads: 1, output_dim: 8, cameras: dataset}"


def clip_reid_file(path: Path, **tables: Any) -> Path:
    """A small ViT as CLIP-ReID saves it, with a table whose rows are far apart."""
    torch.manual_seed(1)
    trunk = ClipVit(width=64, layers=2, heads=1, output_dim=8, input_size=(64, 32), **tables)
    state = {f"module.{key}": value.half() for key, value in trunk.state_dict().items()}
    if tables:
        state["module.cv_embed"] = torch.randn(state["module.cv_embed"].shape).half() * 3
    for tail, dim in (("", 64), ("_proj", 8)):
        norm, classifier = nn.BatchNorm1d(dim), nn.Linear(dim, 5, bias=False)
        for name, module in ((f"bottleneck{tail}", norm), (f"classifier{tail}", classifier)):
            state |= {f"module.{name}.{k}": v for k, v in module.state_dict().items()}
    torch.save(state, path)
    return path


@pytest.mark.parametrize("kind", ["cameras", "few", "views"])
def test_a_file_of_another_set(trained: Console, tmp_path: Path, people: Path, kind: str):
    tables = {"cameras": {"cameras": 6}, "few": {"cameras": 1}, "views": {"cameras": 4}}[kind]
    given = ("--set", "sie=view") if kind == "views" else ()
    file = clip_reid_file(tmp_path / "own.pth", **tables)
    found = trained("import", file, *IMPORT, *given, "--name", "own").stdout
    assert f"table of {tables['cameras']} " in found and "--trained-on DATASET" in found
    metrics = trained.json("eval", "own", "--dataset", "folder")
    assert "left out: nobody said" in metrics["side_information"]
    text = trained("eval", "own", "--dataset", "folder").stdout
    assert metrics["side_information"] in text.splitlines()
    # another set than the one that is named
    trained("import", file, *IMPORT, *given, "--name", "named", "--trained-on", "veri776")
    other = trained.json("eval", "named", "--dataset", "folder")
    assert "trained on veri776, these images are of folder" in other["side_information"]
    assert other["mAP"] == metrics["mAP"]
    # without the table the same numbers as of a file that has none
    state = {k: v for k, v in torch.load(file, weights_only=True).items() if "cv_embed" not in k}
    torch.save(state, tmp_path / "plain.pth")
    trained("import", tmp_path / "plain.pth", *IMPORT)
    plain = trained.json("eval", "plain", "--dataset", "folder")
    assert plain["mAP"] == metrics["mAP"] and "side_information" not in plain
    pictures = sorted((people / "images" / "gallery").iterdir())[:2]
    scores = [trained.json("score", run, *pictures) for run in ("own", "plain")]
    for name in ("similarity", "threshold"):
        assert scores[0][name] == pytest.approx(scores[1][name], abs=1e-6)
    said = trained("score", "own", *pictures).stderr
    assert "left out: these images are of no data set" in said


def test_a_file_of_the_set_that_is_named(trained: Console, tmp_path: Path, people: Path):
    file = clip_reid_file(tmp_path / "own.pth", cameras=2)
    words = ("import", file, *IMPORT)
    unnamed = trained.json(*words)
    named = trained.json(*words, "--trained-on", "folder")
    assert unnamed["model"] != named["model"] and named["run"].startswith("own-folder")
    found = trained.json("eval", named["run"])  # where it was trained, as of a run of ours
    assert found["side_information"].startswith("table of 2 cameras used: trained on folder")
    without = trained.json("eval", unnamed["run"], "--dataset", "folder")
    assert found["mAP"] != without["mAP"]
    # own pictures have no camera: one threshold, calibrated as they are compared
    pair = sorted((people / "images" / "gallery").iterdir())[:2]
    scores = [trained.json("score", run["run"], *pair) for run in (named, unnamed)]
    assert scores[0]["threshold"] == scores[1]["threshold"]
    assert scores[0]["similarity"] == scores[1]["similarity"]
    trained("embed", named["run"], pair[0].parent, "--out", tmp_path / "gallery")
    about = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert about["threshold"]["similarity"] == scores[0]["threshold"]
    line = trained.mistake(*words, "--trained-on", "market1502", notes=0)
    assert "did you mean 'market1501'" in line
    text = trained(*words, "--trained-on", "market1501").stdout
    assert "warning: market1501 has 6 cameras, the table 2" in text


@pytest.mark.slow
def test_a_program_has_no_table(trained: Console, tmp_path: Path):
    file = clip_reid_file(tmp_path / "own.pth", cameras=2)
    named = trained.json("import", file, *IMPORT, "--trained-on", "folder")
    said = trained("export", named["run"], "--format", "torch-export").stdout
    assert "left out: the program's images are of no data set" in said
    program = torch.export.load(trained.root / "exports" / f"{named['run']}.pt2").module()
    model = load_model(named["model"])
    images = torch.rand(3, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(images=images), model(images), atol=1e-5, rtol=0)
        assert not torch.allclose(model(images), model(images, camids=torch.ones(3).long()))


def test_a_run_of_ours_on_its_own_set_and_on_others(
    trained: Console, people: Path, tmp_path: Path, few_people: None
):
    settings = ("model.trunk=clip-vit-b16", f"model.options={OPTIONS}", "input.size=[32,16]")
    settings += (
        "stages.0.losses.1.on=embedding",
        "stages.0.epochs=1",
        "stages.0.data.ids=2",
        "stages.0.data.images_per_id=2",
    )
    sets = [part for setting in settings for part in ("--set", setting)]
    run = trained.json("train", "baseline-tiny", "--dataset", "folder", *sets, "--device", "cpu")
    name = run["run"]
    assert "used: trained on folder" in trained.json("eval", name)["side_information"]
    words = ("run", "baseline-tiny", "--dataset", "folder", *sets, "--test-on", "folder,mannequins")
    rows = trained.json(*words, "--device", "cpu")["rows"]
    assert rows[0]["side_information"].startswith("table of 2 cameras used: trained on folder")
    assert "left out: it was trained on folder" in rows[1]["side_information"]
    lines = trained(*words, "--device", "cpu").stdout.splitlines()
    assert f"baseline-tiny on mannequins: {rows[1]['side_information']}" in lines
    # a copy has the same cameras; other pictures of the same name have not
    moved = tmp_path / "elsewhere"
    shutil.copytree(people, moved)
    prepare = ("prepare", "folder", "--root", moved, "--size", "32x16", "--filter", "bilinear")
    trained(*prepare)
    told = trained.json("eval", name, "--dataset", "folder")["side_information"]
    assert "used: trained on folder" in told
    again = trained.json(
        "train", "baseline-tiny", "--dataset", "folder", *sets, "--seed", "1", "--device", "cpu"
    )
    told = trained.json("eval", again["run"], "--dataset", "folder")["side_information"]
    assert "used: trained on folder" in told
    shutil.copyfile(*sorted((moved / "images" / "gallery").iterdir())[:2])
    trained(*prepare)
    told = trained.json("eval", name, "--dataset", "folder")["side_information"]
    assert "left out: it was trained on folder" in told and f"not in {moved}" in told
    line = trained.mistake(
        *("train", "baseline-tiny", "--dataset", "folder", *sets, "--device", "cpu"),
        *("--set", "model.options.cameras=1"),
        notes=1,
    )
    assert "found camid 1 among the training images" in line and "cameras=dataset" in line
