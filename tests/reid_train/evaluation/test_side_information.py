"""A model with a table of cameras or views meets those of the set it was trained on alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.atomic import read_json, write_json
from pipeline.artifacts.store import MARK
from pipeline.datasets.index import read_index
from reid_train import load_model
from reid_train.engine.checkpoint import save_model
from reid_train.evaluation.embeddings import load_features
from reid_train.evaluation.side_information import side_information
from reid_train.evaluation.work import evaluate
from reid_train.models.deployable import build_model
from tests.reid_train.conftest import SIZE, Prepared

SPEC: dict[str, Any] = {
    "trunk": "clip-vit-b16",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "input_size": list(SIZE),
}
SMALL = {"width": 64, "layers": 2, "heads": 1, "output_dim": 8}


@pytest.fixture(scope="module")
def one_sided(sided) -> Prepared:
    """One set and one model, whose names a test may write anew."""
    return sided()


@pytest.fixture(scope="module")
def sided(make_prepared):
    """``sided(dataset, trained, edit, cameras=6)``: a prepared set and a model with tables whose
    rows are far apart.
    """

    def make(dataset="market1501", trained="market1501", edit=lambda row: row, **tables):
        little: Prepared = make_prepared(edit, dataset)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build_model({**SPEC, "options": SMALL | (tables or {"cameras": 6})})
            table = model.trunk.cv_embed
            assert isinstance(table, torch.Tensor)
            torch.nn.init.normal_(table, std=2)
        meta = {"model": {**SPEC, "options": SMALL | (tables or {"cameras": 6})}, "seed": 0}
        save_model(little.model, model, meta | {"recipe": {"name": "x"}, "dataset": trained})
        return little

    return make


def told(little: Prepared) -> tuple[bool, str]:
    index = read_index(little.index)
    found = side_information(
        load_model(little.model), little.model, little.index, index, index.rows
    )
    assert found.told is not None and "\n" not in found.told
    return found.used, found.told


@pytest.mark.parametrize(
    ("dataset", "trained", "used"),
    [
        ("market1501", "market1501", True),
        ("market1501", "dukemtmc_reid", False),
        ("dukemtmc_reid", "occluded_duke", False),
        ("market1501", "imported", False),
        ("market1501", None, False),
        # one set of cameras in all variants of a published set
        ("msmt17:v2", "msmt17:v1", True),
        ("msmt17", "msmt17:v1", True),
        ("col780:holdout-a", "col780", True),
        # another world has other cameras
        ("mannequins:other-world", "mannequins", False),
        ("mannequins", "mannequins", True),
        ("folder", "market1501", False),
        ("folder", "folder", True),
    ],
)
def test_the_set_decides(one_sided, dataset, trained, used):
    for file, content in (
        (one_sided.index / "dataset.json", {"dataset": dataset}),
        (one_sided.model / "model.json", {"dataset": trained}),
    ):
        write_json(file, read_json(file) | content)
    found, line = told(one_sided)
    assert found == used and line.startswith("table of 6 cameras")
    assert ("left out" in line) != used
    if trained in (None, "imported"):
        assert "--trained-on" in line


def test_cameras_that_are_unknown_or_beyond_the_table(sided):
    def one_unknown(row):
        return dataclasses.replace(row, camid=None) if row.key.startswith("4_c2") else row

    used, line = told(sided(edit=one_unknown))
    assert not used and "2 of 30 images of market1501 have no camera" in line
    used, line = told(sided(edit=lambda row: dataclasses.replace(row, camid=row.camid + 5)))
    assert not used and "camera 6, beyond the table's 6" in line
    # fewer cameras than the table has are still its own
    assert told(sided(edit=lambda row: dataclasses.replace(row, camid=row.camid % 2)))[0]


def test_views_are_treated_as_cameras_are(sided):
    def seen(row):
        return dataclasses.replace(row, view=row.camid)

    used, line = told(sided(views=3))
    assert not used and "30 of 30 images of market1501 have no view" in line
    assert told(sided(edit=seen, views=3))[0]
    used, line = told(sided("veri776", edit=seen, views=3))
    assert not used and "trained on market1501" in line
    used, line = told(sided(edit=seen, views=2))
    assert not used and "view 2, beyond the table's 2" in line
    # of two tables in one both or none
    used, line = told(sided(cameras=3, views=3))
    assert not used and line.startswith("table of 3 cameras and 3 views")
    assert told(sided(edit=seen, cameras=3, views=3))[0]


def test_own_sets_are_told_apart_by_their_roots(sided):
    little = sided("folder", "folder")

    def place(folder, root, **inputs):
        write_json(folder / MARK, {"params": {"root": root}, "inputs": inputs})

    place(little.index, "/a.csv")
    place(little.model, "", index={"params": {"root": "/a.csv"}})
    assert told(little)[0]
    place(little.model, "", index={"params": {"root": "/b.csv"}})
    used, line = told(little)
    assert not used and "in /b.csv, not in /a.csv" in line
    drawn = sided("mannequins", "mannequins")
    write_json(drawn.index / MARK, {"params": {"seed": 0, "cameras": 4}, "inputs": {}})
    write_json(drawn.model / MARK, {"inputs": {"index": {"params": {"seed": 0, "cameras": 2}}}})
    used, line = told(drawn)
    assert not used and "drawn in another way" in line


def test_an_evaluation_says_it_and_its_threshold_is_for_images_of_no_set(sided):
    results = {}
    for name, trained in (("known", "market1501"), ("other", "veri776")):
        little = sided(trained=trained)
        job = little.job("a")
        metrics = results[name] = evaluate(job)
        assert metrics["side_information"] == told(little)[1]
        assert read_json(job.folder / "protocol.json")["side_information"] == told(little)[1]
        threshold = read_json(job.folder / "threshold.json")
        assert threshold["side_information"] == "left out"
        results[name, "threshold"] = threshold
        results[name, "features"], results[name, "keys"] = load_features(job.folder)
    # the table enters the metrics of its own set, and of that alone
    assert not np.allclose(results["known", "features"], results["other", "features"], atol=1e-3)
    rows = {row.key: row for row in read_index(little.index).rows}
    model = load_model(little.model)
    for place, key in list(enumerate(results["known", "keys"]))[::7]:
        pixels = np.asarray(Image.open(little.root / "files" / key), np.float32) / 255
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            with_row = model(images, camids=torch.tensor([rows[key].camid]))[0]
            without = model(images)[0]
        np.testing.assert_allclose(results["known", "features"][place], with_row, atol=1e-4)
        np.testing.assert_allclose(results["other", "features"][place], without, atol=1e-4)
    # one threshold, whatever the set: search and score never have a camera
    assert results["known", "threshold"] == results["other", "threshold"]


def test_models_without_a_table_say_nothing(prepared):
    job = prepared.job("no table")
    assert "side_information" not in evaluate(job)
    assert "side_information" not in read_json(job.folder / "threshold.json")


def test_rows_of_no_table_are_refused_in_words(sided):
    model = load_model(sided(cameras=3, views=2).model)
    x, one = torch.rand(2, 3, *SIZE), torch.tensor([0, 1])
    assert model(x, camids=one, views=one).shape == model(x).shape
    for wrong in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match=r"found camids (3|-1); this model has a table of 3"):
            model(x, camids=wrong, views=one)
    with pytest.raises(ValueError, match="found views 2; this model has a table of 2"):
        model(x, camids=one, views=torch.tensor([2, 0]))
