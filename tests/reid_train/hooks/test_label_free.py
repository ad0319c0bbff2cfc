"""Training without identities: what is known of them, and of cameras, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.artifacts.atomic import read_json
from pipeline.datasets.index import Index, write_index
from reid_train.recipe import work
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.stages import build_stages, training_set
from tests.reid_train.hooks.test_hooks import CAMERAS, RUNTIME, USL, job_of, log_of
from tests.reid_train.people import people


def trained_on(folder, rows, options=USL["stages.0.hooks.0.options"]):
    """The bytes of a model trained on the images of ``people`` described by ``rows``, its log."""
    people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    work.model(job_of(folder, folder / "model", **{"stages.0.hooks.0.options": options}))
    return (folder / "model" / "model.safetensors").read_bytes(), log_of(folder / "model")


def test_the_same_model_whether_identities_are_known_or_not(tmp_path):
    _, rows, _ = people(tmp_path / "drawn", size=(64, 32))
    known, log = trained_on(tmp_path / "known", rows)
    unknown, bare = trained_on(tmp_path / "none", [replace(row, pid=None) for row in rows])
    # Of every second image somebody knows who it is.
    some = [replace(row, pid=row.pid if place % 2 else None) for place, row in enumerate(rows)]
    partly, partial = trained_on(tmp_path / "some", some)
    assert known == unknown == partly
    quality = {"nmi", "ari"}
    for one, other, third in zip(log, bare, partial, strict=True):
        assert {k: v for k, v in one.items() if k not in quality} == other
        assert other == {k: v for k, v in third.items() if k not in quality}
        assert one["event"] != "hook" or (quality <= one.keys() and quality <= third.keys())
    about = [read_json(tmp_path / name / "model" / "model.json") for name in ("none", "some")]
    assert about[0]["identity_order"] == [] and about[0]["training"]["identities"] == 0
    assert about[1]["identity_order"] == [10, 20, 30, 40, 50, 60]


def test_images_of_unknown_camera_are_centred_as_of_one_camera(tmp_path, caplog):
    _, rows, _ = people(tmp_path / "drawn", size=(64, 32))
    options = USL["stages.0.hooks.0.options"].replace("}", ", centre_cameras: true}")
    bare, _ = trained_on(tmp_path / "a", [replace(row, camid=None) for row in rows], options)
    assert "30 of 30 images are of unknown cameras" in caplog.text
    same, _ = trained_on(tmp_path / "b", [replace(row, camid=4) for row in rows], options)
    # A camera of one person alone: without what is common, nothing of them is left.
    apart = [replace(row, camid=int(place > 4)) for place, row in enumerate(rows)]
    other, _ = trained_on(tmp_path / "c", apart, options)
    partly, _ = trained_on(
        tmp_path / "d", [replace(row, camid=row.camid or None) for row in apart], options
    )
    # One camera or none is the same; so is one that is known beside one that is not, and two.
    assert bare == same
    assert other == partly
    assert other != bare


def test_proxies_of_cameras_where_cameras_are_known(tmp_path):
    images, rows, _ = people(tmp_path, size=(64, 32))
    recipe = load_recipe("pcl-clip-usl-tiny", {**USL, "stages.0.losses": CAMERAS})
    bare = [replace(row, camid=None if row.camid else 7) for row in rows]
    data = training_set(recipe, images, bare)
    task: Any = build_task(recipe, classes=0)
    (stage,) = build_stages(recipe, data, seed=0, runtime=RUNTIME)
    task.begin_stage(stage.name)
    stage.hooks[0].begin_stage(task)
    stage.hooks[0].begin_epoch(task, 0)
    assert set(task.active[1].loss.cameras.tolist()) == {7}
    task.train()
    batch = next(stage.batches.epoch(0, 0, 1))
    assert "camids" not in batch and set(batch["cameras"].tolist()) == {-1, 7}
    losses, _ = task.training_forward(batch)
    assert losses["camera-prototypes/embedding"].isfinite()
