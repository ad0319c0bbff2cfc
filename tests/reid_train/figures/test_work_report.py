"""The report worker finds the runs' names and shows them side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.steps import Job
from pipeline.datasets.index import read_index
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from reid_train import load_model
from reid_train.engine.checkpoint import save_model
from reid_train.evaluation import compared
from reid_train.evaluation.embeddings import load_features
from reid_train.evaluation.work import evaluate
from reid_train.figures.activation_maps import activation_map, tint
from reid_train.figures.embedding_map import choose, embedding_map
from reid_train.figures.page.views import RunView
from reid_train.figures.page.writing import write_report
from reid_train.figures.work import encoder_of, report
from reid_train.models.deployable import build_model
from tests.reid_train.conftest import Prepared


def test_two_evaluations_on_one_page(prepared):
    first, second = prepared.job("first"), prepared.job("second", exclude="none")
    inputs = {}
    for number, job in enumerate((first, second)):
        evaluate(job)
        inputs[f"evaluation{number}"] = job.folder
        inputs[f"model{number}"] = job.inputs["model"]
        inputs[f"index{number}"] = job.inputs["index"]
    folder = prepared.root / "report"
    folder.mkdir()
    params = {"title": "both", "evaluations": 2}
    summary = report(Job(folder, params, inputs, prepared.root))
    name = f"bignet-little-s3-{prepared.model.name[:6]}"
    assert summary == {"runs": [name, name]}
    page = (folder / "report.html").read_text()
    assert page.count(f'class="name">{name}</th>') >= 2
    assert "exclude same-camera" in page and "exclude none" in page
    assert page.count('aria-label="t-SNE of gallery features') == 2
    assert page.count("speaks for a match</h3>") == 2
    # Two exclusion rules ask two questions: no number is called the best.
    assert "number best" not in page and "answer different questions" in page
    assert '<span class="word">--exclude</span> <span class="word">none</span>' in page


@pytest.mark.parametrize("feature", ["projected", "feature+projected", "last"])
def test_what_is_explained_is_what_was_compared(prepared: Prepared, tmp_path: Path, feature: str):
    spec = {"trunk": "clip-tiny", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [128, 48]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model(tmp_path, build_model(spec), {"model": spec})
    job = prepared.job(f"compared-{feature}", feature=feature)
    job = replace(job, inputs={**job.inputs, "model": tmp_path})
    evaluate(job)
    inputs = {f"{name}0": job.inputs[name] for name in ("model", "index")}
    params = {"title": feature, "evaluations": 1}
    report(Job(tmp_path, params, {"evaluation0": job.folder, **inputs}, prepared.root))
    page = (tmp_path / "report.html").read_text()
    # no last map leads to the map before it
    assert ("What speaks for an identity</h3>" in page) == (feature != "last")

    view = RunView("one", job.folder, prepared.index, tmp_path)
    network, image = load_model(tmp_path), torch.rand(1, 3, 128, 48)
    with torch.no_grad():
        encoded = encoder_of(view, network, view.pictures.index.rows[0])(image)
        assert torch.equal(encoded, compared.encoder(network, feature)(image))
    assert encoded.shape[1] == load_features(job.folder)[0].shape[1]


def test_no_pixel_of_a_withdrawn_dataset_is_on_the_page(make_prepared):
    duke = make_prepared(dataset="dukemtmc_reid")
    job = duke.job("evaluation")
    evaluate(job)
    maps = duke.root / "maps"
    with MapWriter(maps, LIP, {"model": "by hand"}, size=(32, 16)) as writer:
        for row in read_index(duke.index).rows:
            label = np.full((32, 16), 5, np.uint8)
            sure = np.ones((32, 16), np.float32)
            writer.add(row.key, label, sure, source_size=(128, 48), source_digest=row.digest)
    inputs = {"evaluation0": job.folder, "model0": duke.model, "index0": duke.index}

    def page(name: str) -> str:
        folder = duke.root / name
        folder.mkdir()
        report(Job(folder, {"title": "t", "evaluations": 1}, inputs, duke.root))
        mapped = RunView("mapped", job.folder, duke.index, maps=maps)
        write_report(folder / "mapped.html", [mapped], "t")
        return (folder / "report.html").read_text() + (folder / "mapped.html").read_text()

    before = page("before")
    for path in (duke.root / "files").iterdir():
        Image.new("RGB", (48, 128)).save(path)
    assert page("after") == before
    assert before.count("dukemtmc_reid were withdrawn by their publisher") == 2
    metrics = json.loads((job.folder / "metrics.json").read_text())
    assert f"{100 * metrics['mAP']:.1f}" in before and LIP.names[5] in before
    assert before.count("Hardest queries</h2>") == 2 and "speaks for a match" not in before
    assert before.count("withdrawn by their publisher and are not shown.</p>") == 2


def test_activation_map_finds_the_region_that_decides():
    def encode(images):
        # A "model" that sees nothing but the mean colour of the top left quarter.
        return images[:, :, :32, :16].mean(dim=(2, 3)) - torch.tensor([0.5, 0.4, 0.5])

    image = torch.full((3, 64, 32), 0.5)
    image[0, :32, :16] = 1.0
    found = activation_map(encode, image, torch.tensor([1.0, 0.0, 0.0]))
    assert found.shape == (8, 4)
    # Regions reach one half cell over each side of their cell.
    assert (found[5:] == 0).all() and (found[:, 3:] == 0).all()
    assert found[:4, :2].min() > 0


def test_tint_marks_only_what_speaks_for_the_match():
    image = np.full((16, 8, 3), (30, 90, 150), np.uint8)
    relevance = -np.ones((8, 4), np.float32)
    assert (tint(image, relevance) == 90).all()
    relevance[0, 0] = 2
    tinted = tint(image, relevance)
    assert tinted[0, 0, 0] > 150 and (tinted[8:] == 90).all()


def test_embedding_map_takes_the_identities_with_most_images():
    pids = [7] * 3 + [2] * 50 + [5] * 4
    chosen = choose(pids)
    assert [pids[place] for place in chosen] == [2] * 40 + [5] * 4 + [7] * 3
    assert choose([1, 2, 3]) == []
    features = np.random.default_rng(0).normal(size=(len(chosen), 8)).astype(np.float32)
    shown = [pids[place] for place in chosen]
    assert embedding_map(features, shown) == embedding_map(features, shown)
