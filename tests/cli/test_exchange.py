"""``reidpipe import`` and ``export``: published files in, programs out, with the same features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from reid_train import load_model
from reid_train.exchange import exporting
from reid_train.exchange.commands import called
from reid_train.models.bignet import SliceNet2
from reid_train.models.clip.visual import ClipVit
from reid_train.models.deployable import build_model
from reid_train.models.heads import CosineSoftmax
from tests.cli.conftest import Console
from tests.cli.test_repeat import assert_idle

CLIP_REID = ("--from", "clip-reid", "--set", "input_size=[64,32]", "--set", "stride=16")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A CLIP-ReID file of a small ViT, as their training script saves it."""
    torch.manual_seed(1)
    trunk = ClipVit(width=64, layers=2, heads=1, output_dim=8, input_size=(64, 32))
    file = nn.Module()
    for name, child in trunk.named_children():
        file.add_module(name, child)
    for tail, dim in (("", 64), ("_proj", 8)):
        file.add_module(f"classifier{tail}", nn.Linear(dim, 5, bias=False))
        norm = nn.BatchNorm1d(dim)
        nn.init.uniform_(norm.weight)
        file.add_module(f"bottleneck{tail}", norm)
    path = tmp_path / "ViT person (60).pth"
    torch.save({f"module.{key}": value for key, value in file.state_dict().items()}, path)
    return path


def test_imported_checkpoint_is_a_run(trained: Console, checkpoint: Path, people: Path, tmp_path):
    found = trained.json("import", checkpoint, *CLIP_REID)
    assert found["run"].startswith("ViT_person_60-imported-") and len(found["made"]) == 2
    assert found["input_size"] == [64, 32]
    files = {path.name for path in Path(found["model"]).iterdir()}
    assert {"model.safetensors", "model.json", "artifact.json"} == files - {"step.log"}
    images = torch.rand(2, 3, 64, 32)
    published = load_model(checkpoint, format="clip-reid", input_size=(64, 32), stride=16)
    with torch.no_grad():
        expected = published(images)
        assert torch.equal(load_model(found["model"])(images), expected)
        assert torch.equal(load_model(trained.root / "runs" / found["run"])(images), expected)

    # It goes where our own runs go.
    run = found["run"]
    metrics = trained.json("eval", run, "--dataset", "folder", "--report")
    assert metrics["recipe"] == "ViT_person_60" and metrics["queries"] == 12
    page = Path(metrics["report"]).read_text(encoding="utf-8")
    # Nobody knows the seed of a file that was trained elsewhere.
    assert metrics["seed"] is None and "-s0-" not in run
    assert run in page and "<code>unknown</code>" in page
    (line,) = [line for line in trained("status").stdout.splitlines() if run in line]
    assert line.split() == [run, "ViT_person_60", "imported", "-", "ready"]
    gallery = people / "images" / "gallery"
    assert trained.json("embed", run, gallery, "--out", tmp_path / "out")["dimension"] == 72
    picture = sorted(gallery.iterdir())[0]
    assert trained.json("search", run, picture, gallery)["threshold"] is not None
    line = trained.mistake("eval", run)
    assert "found an imported model" in line and "--dataset mannequins" in line
    assert "ViT_person_60" in trained("cache", "ls").stdout

    words = ("import", checkpoint, *CLIP_REID)
    assert_idle(trained, words)
    # Another name is another run of the same model; other options are another model, for which the
    # file is looked at again.
    again = trained.json(*words, "--name", "mine")
    assert again["run"].startswith("mine-imported-") and again["made"] == []
    after = trained.json(*words, "--set", "neck=after")
    assert len(after["made"]) == 2
    with torch.no_grad():
        assert not torch.equal(load_model(after["model"])(images), expected)


def test_a_model_made_again_needs_the_same_file(trained: Console, checkpoint: Path, tmp_path: Path):
    run = trained.json("import", checkpoint, *CLIP_REID)["run"]
    trained("cache", "rm", "model")
    state = torch.load(checkpoint, weights_only=True)
    state["module.classifier.weight"] += 1
    torch.save(state, checkpoint)
    words = ("export", run, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    assert "found other bytes in" in trained.mistake(*words, notes=1)


def test_a_file_of_col780_with_its_options(console: Console, tmp_path: Path):
    torch.manual_seed(0)
    file = tmp_path / "slices.pth"
    head = CosineSoftmax(dim=128, classes=3)
    torch.save({**SliceNet2().state_dict(), **head.state_dict()}, file)
    found = console.json(
        "import", file, "--from", "col780", "--name", "course", "--set", "mean=[0.5,0.5,0.5]"
    )
    about = json.loads((Path(found["model"]) / "model.json").read_text())
    assert about["model"]["trunk"] == "slicenet2" and about["model"]["mean"] == [0.5] * 3
    assert about["imported"]["format"] == "col780" and about["preprocessing"]["size"] == [128, 48]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("no.pth", "--from", "col780"), ("found no file no.pth",)),
        (("text.pth",), ("--from", "type reidpipe import -h")),
        (("text.pth", "--from", "colc780"), ("did you mean 'col780'?", "pcl-clip")),
        (("text.pth", "--from", "col780", "--set", "strides=3"), ("did you mean 'stride'?",)),
        (("text.pth", "--from", "col780", "--set", "input_size=big"), ("'big'", "[H,W]")),
        (("text.pth", "--from", "col780", "--set", "input_size=[0,4]"), ("input_size",)),
        (("text.pth", "--from", "clip-reid", "--set", "stride=1.5"), ("a whole number",)),
        (("text.pth", "--from", "col780", "--set", "mean=[0,.inf,0]"), ("three numbers",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_import_mistakes(
    console: Console, words: tuple[str, ...], parts: tuple[str, ...], monkeypatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_text("no weights")
    line = console.mistake("import", *words)
    assert all(part in line for part in parts), line


def test_files_that_are_something_else(console: Console, checkpoint: Path, tmp_path: Path):
    (tmp_path / "text.pth").write_text("no weights")
    words = ("import", tmp_path / "text.pth", "--from", "clip-reid")
    assert "not plain weights" in console.mistake(*words, notes=1)
    line = console.mistake("import", checkpoint, "--from", "simple-reid", notes=1)
    assert "found weights of another network" in line
    line = console.mistake("import", checkpoint, "--from", "col780", "--set", "stride=3", notes=1)
    assert "found option 'stride'" in line and "for col780" in line
    assert "--name mine" in console.mistake(
        "import", checkpoint, *CLIP_REID, "--name", "..", notes=1
    )
    assert console.json("status")["runs"] == []


def test_names_of_files_become_names_of_runs():
    assert called("MSMT17_clipreid ViT-B/16") == "MSMT17_clipreid_ViT-B_16"


def test_export_of_weights(trained: Console, tmp_path: Path):
    run = trained.json("status")["runs"][0]["run"]
    file = tmp_path / "a.safetensors"
    found = trained.json("export", run, "--format", "safetensors", "--out", file)
    model = load_model(trained.root / "runs" / run)
    state = load_file(file)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert json.loads((tmp_path / "a.json").read_text())["model"]["trunk"] == "tiny"
    assert found["file"] == str(file)
    # The threshold of the evaluation goes with the weights: from how many pairs, and how sure.
    stored = json.loads((Path(trained.json("eval")["folder"]) / "threshold.json").read_text())
    threshold = found["threshold"]
    assert threshold["similarity"] == stored["threshold"] and threshold["wanted_fpr"] == 0.01
    assert threshold["pairs"] == stored["pairs"] and threshold["dataset"] == "folder"
    low, high = threshold["interval"]
    assert low <= threshold["similarity"] <= high and threshold["fpr_interval"][1] > 0


def test_every_exported_file_keeps_its_own_description(
    trained: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def written(error: float):
        def write(model, file: Path) -> dict[str, object]:
            file.write_bytes(b"a program")
            return {"max_error": error, "relative_error": error, "batches": [1]}

        return write

    monkeypatch.setattr(exporting, "export_torch", written(0.25))
    monkeypatch.setattr(exporting, "export_onnx", written(0.5))
    monkeypatch.setattr(exporting, "require_onnx", lambda: None)
    run = trained.json("status")["runs"][0]["run"]
    suffixes = {"safetensors": "safetensors", "torch-export": "pt2", "onnx": "onnx"}
    for more in ((), ("--out", tmp_path / "model")):
        files = {}
        for format, suffix in suffixes.items():
            out = [*more[:-1], *(f"{name}.{suffix}" for name in more[-1:])]
            files[format] = trained.json("export", run, "--format", format, *out)
        abouts = {format: Path(found["about"]) for format, found in files.items()}
        folder, name = (tmp_path, "model") if more else (trained.root / "exports", run)
        assert abouts == {
            "safetensors": folder / f"{name}.json",
            "torch-export": folder / f"{name}.pt2.json",
            "onnx": folder / f"{name}.onnx.json",
        }
        told = {format: json.loads(path.read_text()) for format, path in abouts.items()}
        assert told["safetensors"]["model"]["trunk"] == "tiny"
        assert (told["torch-export"]["format"], told["torch-export"]["max_error"]) == (
            "torch-export",
            0.25,
        )
        assert (told["onnx"]["format"], told["onnx"]["max_error"]) == ("onnx", 0.5)
    # What reads our own weights finds their description where it was.
    model, again = (
        load_model(tmp_path / "model.safetensors"),
        load_model(run, workspace=trained.root),
    )
    images = torch.rand(2, 3, 32, 16)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))


@pytest.mark.slow
def test_exported_program_gives_the_models_features(trained: Console, tmp_path: Path):
    run = trained.json("status")["runs"][0]["run"]
    found = trained.json("export", run, "--format", "torch-export")
    assert Path(found["file"]) == trained.root / "exports" / f"{run}.pt2"
    about = json.loads(Path(found["about"]).read_text())
    assert about["max_error"] < 1e-5 and about["input"].startswith("images N,3,32,16 float32")
    assert about["tensors"] == {"inputs": ["images"], "output": "embedding", "batch": "n"}
    loaded = torch.export.load(found["file"])
    assert loaded.graph_signature.user_outputs == ("embedding",)
    program = loaded.module()
    model = load_model(trained.root / "runs" / run)
    with torch.no_grad():
        for batch in (1, 2, 5):
            images = torch.rand(batch, 3, 32, 16)
            torch.testing.assert_close(program(images=images), model(images), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_exported_onnx_gives_the_models_features(tmp_path: Path):
    torch.manual_seed(0)
    options = {"width": 64, "layers": 2, "heads": 2, "output_dim": 8, "cameras": 3, "neck": "after"}
    spec = {"mean": [0.5] * 3, "std": [0.2] * 3, "input_size": [64, 32], "options": options}
    model = build_model({"trunk": "clip-vit-b16", **spec}).eval()
    found = exporting.export_onnx(model, tmp_path / "a.onnx")
    assert found["relative_error"] < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    assert {given.name for given in session.get_inputs()} == {"images", "camids"}
    assert {given.shape[0] for given in session.get_inputs()} == {"n"}
    (output,) = session.get_outputs()
    assert output.name == "embedding" and output.shape[0] == "n"
    inputs = exporting.example_inputs(model, 5, seed=9)
    with torch.no_grad():
        expected = model(**inputs).numpy()
    features = np.asarray(
        session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    )
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_a_program_that_differs_is_not_written():
    model = build_model(
        {
            "trunk": "tiny",
            "options": {},
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "input_size": [32, 16],
        }
    ).eval()
    exact = exporting.compare(model, lambda inputs: model(**inputs))
    assert exact == {"max_error": 0.0, "relative_error": 0.0, "batches": [1, 3]}
    for wrong in (1.1, float("nan")):
        with pytest.raises(exporting.ReidpipeError, match="features .* apart"):
            exporting.compare(model, lambda inputs, by=wrong: by * model(**inputs))


def test_export_mistakes(trained: Console, monkeypatch):
    line = trained.mistake("export", "baseline-tiny")
    assert "--format" in line and "type reidpipe export -h" in line
    line = trained.mistake("export", "nosuch", "--format", "onnx")
    assert "found no run 'nosuch'" in line
    line = trained.mistake("export", "baseline-tiny", "--format", "torch-export", "--out", "a.onnx")
    assert "ends in .pt2" in line and "--out a.pt2" in line
    monkeypatch.setattr(exporting, "ONNX_PACKAGES", ("onnx_that_nobody_has",))
    line = trained.mistake("export", "baseline-tiny", "--format", "onnx")
    assert "found no onnx_that_nobody_has" in line and "type pip install onnx_that" in line
