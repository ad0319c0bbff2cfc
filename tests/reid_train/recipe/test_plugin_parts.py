"""Parts of a recipe from outside: head, sampler, schedule and hook train like the package's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import plugins
from pipeline.artifacts.steps import Job, Step
from pipeline.datasets.index import Index, write_index
from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe import steps, work
from reid_train.recipe.checks import check_made
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.schema import Recipe
from tests.reid_train.people import people

TEXT = '''
import numpy as np
from torch import nn
from pipeline.plugins import register
from reid_train.engine.task import Hook


@register.sampler("first-images")
class FirstImages:
    """The same images in every batch."""

    together = 1

    def __init__(self, labels, *, seed, size, camids=None):
        self.batch, self.camids = size, camids

    def __len__(self):
        return 3

    def epoch(self, epoch):
        return np.tile(np.arange(self.batch), (3, 1))


@register.schedule("halves")
class Halves:
    def __init__(self, factor=0.5):
        self.factor = factor

    def __call__(self, epoch, step, steps, epochs):
        return self.factor**epoch


@register.hook("counts")
class Counts(Hook):
    def __init__(self, batches, runtime, start=0):
        self.count = start

    def begin_epoch(self, task, epoch):
        self.count += 1
        return {"counted": self.count}

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


@register.head("two-layer")
class TwoLayer(nn.Sequential):
    def __init__(self, *, dim, classes, width=8):
        super().__init__(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, classes))
'''
SETTINGS = {
    "input.size": "[64, 32]",
    "stages.0.epochs": "2",
    "stages.0.data": "{kind: first-images, size: 6}",
    "stages.0.schedule": "{kind: halves, factor: 0.25}",
    "stages.0.hooks": "[{hook: counts, options: {start: 4}}]",
    "stages.0.losses": "[{loss: cross-entropy, on: identity}]",
    "model.heads.identity": "{kind: two-layer, on: embedding, options: {width: 5}}",
}


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "parts.py"
    file.write_text(TEXT)
    plugins.use([str(file)])
    yield file
    plugins.use([])


def recipe(**changes: str) -> Recipe:
    return load_recipe("baseline-tiny", {**SETTINGS, **changes})


def model_of(asked: Recipe) -> Step:
    return steps.model(Step("index", {}), asked, seed=0)


def test_all_parts_train_together(given: Path, tmp_path: Path):
    _, rows, _ = people(tmp_path, size=(64, 32))
    write_index(tmp_path, Index("crowd", tmp_path, rows))
    (folder := tmp_path / "model").mkdir()
    step = model_of(recipe())
    params = {**step.params, "seed": 0}
    inputs = {"index": tmp_path, "images": tmp_path}
    job = Job(folder, params, inputs, tmp_path, weights=dict(step.weights), device="cpu")
    summary = work.model(job)
    assert summary["epochs"] == 2 and summary["steps"] == 6
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["counted"] for line in log if line["event"] == "hook"] == [5, 6]
    rates = [line["lr"] for line in log if line["event"] == "step"]
    assert rates[3] == 0.25 * rates[0]
    about = json.loads((folder / "model.json").read_text())
    names = {"head two-layer", "hook counts", "sampler first-images", "schedule halves"}
    assert set(about["plugins"]["parts.py"]["names"]) == names


def test_the_digest_is_in_the_keys_of_what_uses_it_alone(given: Path):
    plain = load_recipe("baseline-tiny")
    before, own = model_of(recipe()), model_of(plain)
    assert set(before.weights.values()) == {plugins.plugins()[0].digest} and not own.weights
    given.write_text(TEXT.replace("self.count += 1", "self.count += 2"))
    plugins.use([str(given)])
    assert model_of(recipe()).key != before.key and model_of(plain).key == own.key


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stages.0.data": "{kind: first-imges, size: 6}"}, "did you mean 'first-images'"),
        ({"stages.0.schedule": "{kind: halvs}"}, "did you mean 'halves'"),
        ({"stages.0.schedule": "{kind: halves, facter: 2}"}, "did you mean 'factor'"),
        ({"stages.0.schedule": "{kind: halves, factor: .inf}"}, "finite"),
        ({"stages.0.hooks": "[{hook: conts}]"}, "did you mean 'counts'"),
        ({"model.heads.identity.options": "{widht: 3}"}, "did you mean 'width'"),
    ],
)
def test_mistakes_about_them_are_one_line(given: Path, setting: dict[str, str], message: str):
    with pytest.raises(ReidpipeError, match=message) as error:
        check_made(recipe(**setting))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    together = 1\n", "", "sampler 'first-images' without together"),
        ("class Counts(Hook):", "class Counts:", "hook 'counts' without begin_stage, after_step"),
        ("def __call__(self, epoch", "def rate(self, epoch", "schedule 'halves' without __call__"),
    ],
)
def test_what_lacks_a_field_is_told(given: Path, tmp_path: Path, old: str, new: str, message: str):
    from reid_train.engine.runtime import Runtime
    from reid_train.recipe.stages import build_stages, training_set

    given.write_text(TEXT.replace(old, new))
    plugins.use([str(given)])
    images, rows, _ = people(tmp_path, size=(64, 32))
    data = training_set(recipe(), images, rows)
    with pytest.raises(ReidpipeError, match=message):
        build_stages(recipe(), data, seed=0, runtime=Runtime.create("cpu"))
