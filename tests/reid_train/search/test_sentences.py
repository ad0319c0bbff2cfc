"""A sentence against an image: whose text tower it is, and which runs have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.artifacts import epochs, requests
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.prompts import tokenise
from reid_train.recipe import steps
from reid_train.recipe.loading import load_recipe
from reid_train.search.encoder import Encoder
from reid_train.search.sentences import sentence_similarity

SENTENCE = "a person in a red coat"
INDEX = requests.index("mannequins", {"seed": 0})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text tower of clip-tiny's sizes, random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = ClipText(**clip_tiny.TEXT).state_dict()
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()}, path)
    return path


def model(recipe: str, **starts: Any) -> Step:
    return steps.model(INDEX, load_recipe(recipe), seed=0, **starts)


def going_on(start: Step) -> Step:
    inputs = {name: step for name, step in epochs.trained(start).inputs.items() if name != "start"}
    return steps.continuation(start, load_recipe("clip-reid-tiny"), inputs, seed=0)


def similarity(step: Step, encode: Encoder, tmp_path: Path) -> float:
    run = Run("mine", "mine", "mannequins", 0, 0.0, step)
    return sentence_similarity(run, encode, Path("a.png"), SENTENCE, weights=tmp_path)


def giving(feature: np.ndarray) -> Encoder:
    return lambda paths: (feature, list(paths), {})


def never(paths: Any) -> Any:
    raise AssertionError("an image was read before a mistake was told")


def test_a_kept_epoch_and_a_run_that_goes_on_have_the_first_ones_text_tower(
    file: Path, tmp_path: Path
):
    tower = ClipText(**clip_tiny.TEXT, architecture="RN50", pretrained=str(file)).eval()
    with torch.no_grad():
        row = tower(tokenise([SENTENCE])).numpy()  # open_clip's plain pass
    across = np.roll(row, 1) * np.tile([1.0, -1.0], row.shape[1] // 2)
    across -= row * (across @ row.T) / (row @ row.T)
    first = model("clip-reid-tiny", pretrained=file)
    kept = epochs.step_of(first, 4)
    further = going_on(kept)
    for step in (first, kept, further, going_on(epochs.step_of(further, 2))):
        for feature, expected in ((row, 1.0), (-2 * row, -1.0), (across, 0.0)):
            found = similarity(step, giving(feature), tmp_path)
            assert found == pytest.approx(expected, abs=1e-5)


def test_a_text_tower_that_is_gone_is_named_for_every_such_run(file: Path, tmp_path: Path):
    gone = tmp_path / "gone.safetensors"
    gone.write_bytes(b"weights")
    first = model("clip-reid-tiny", pretrained=gone)
    gone.unlink()
    for step in (first, epochs.step_of(first, 4), going_on(first)):
        with pytest.raises(ReidpipeError, match=f"found no {gone} with SHA-256 .* run 'mine'"):
            similarity(step, never, tmp_path)


def test_a_student_and_random_numbers_are_told_as_what_they_are(file: Path, tmp_path: Path):
    for start in ("none", "imagenet"):
        student = model("distill-mobilenet-clip-reid", pretrained=start, teacher=file)
        for step in (student, epochs.step_of(student, 4)):
            with pytest.raises(ReidpipeError, match="a student whose trunk mobilenetv2-x0.25 is"):
                similarity(step, never, tmp_path)
    with pytest.raises(ReidpipeError, match=r"text tower of random numbers .*\(pretrained none\)"):
        similarity(model("clip-reid-tiny", pretrained="none"), never, tmp_path)
    with pytest.raises(ReidpipeError, match="no text side in run 'mine'"):
        similarity(model("baseline-tiny"), never, tmp_path)
