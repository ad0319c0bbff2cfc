"""``reidpipe score``: two images against the calibrated threshold, an image against a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.artifacts.mark import described
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.clip.visual import ClipResNet
from reid_train.models.prompts import tokenise
from tests.cli.conftest import Console

SHORT = (
    "input.size=[64,32]",
    "stages.0.epochs=1",
    "stages.1.epochs=1",
    "stages.1.data.ids=2",
    "stages.1.data.images_per_id=2",
)


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of clip-tiny's sizes in OpenAI's layout, random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        visual = ClipResNet(input_size=(64, 64), **clip_tiny.VISUAL).image_encoder.state_dict()
        text = ClipText(**clip_tiny.TEXT).state_dict()
    state = {f"visual.{key}": value.contiguous() for key, value in visual.items()} | dict(text)
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="session")
def session_clip(
    session_console: Console, clip_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Console:
    console = Console(tmp_path_factory.mktemp("clip") / "workspace")
    shutil.copytree(session_console.root, console.root)
    settings = [part for setting in SHORT for part in ("--set", setting)]
    words = ("train", "clip-reid-tiny", "--dataset", "folder", "--pretrained", clip_file)
    console(*words, *settings, "--device", "cpu")
    return console


@pytest.fixture
def clip_run(session_clip: Console, tmp_path: Path) -> Console:
    root = tmp_path / "workspace"
    shutil.copytree(session_clip.root, root)
    return Console(root)


def pictures(people: Path, count: int) -> list[Path]:
    return sorted((people / "images" / "gallery").iterdir())[:count]


def test_score_is_the_similarity_that_search_finds(trained: Console, people: Path):
    first, second = pictures(people, 2)
    found = trained.json("score", "baseline-tiny", first, second)
    gallery = trained.json("search", "baseline-tiny", first, second.parent, "--top", "24")
    match = next(row for row in gallery["matches"] if row["image"] == str(second))
    assert found["similarity"] == pytest.approx(match["similarity"], abs=1e-6)
    assert (found["threshold"], found["passes"]) == (gallery["threshold"], match["passes"])
    threshold = json.loads((Path(trained.json("eval")["folder"]) / "threshold.json").read_text())
    assert found["threshold"] == threshold["threshold"]


def test_score_tells_its_verdict(trained: Console, people: Path):
    (picture,) = pictures(people, 1)
    same = trained("score", "baseline-tiny", picture, picture).stdout
    assert same.startswith("similarity 1.000: same person\nthreshold ")
    # A threshold nobody passes, as of another evaluation.
    folder = Path(trained.json("eval")["folder"])
    histogram = {"same": [], "different": [], "edges": []}
    content = json.dumps({"threshold": 1.5, "histogram": histogram})
    (folder / "threshold.json").write_text(content)
    mark = json.loads((folder / "artifact.json").read_text())
    mark["files"]["threshold.json"] = described(folder / "threshold.json")
    (folder / "artifact.json").write_text(json.dumps(mark))
    assert "below the threshold" in trained("score", "baseline-tiny", picture, picture).stdout
    trained("cache", "rm", "evaluation")
    text = trained("score", "baseline-tiny", picture, picture).stdout
    assert "no threshold yet; reidpipe eval baseline-tiny-folder-s0" in text
    assert trained.json("score", "baseline-tiny", picture, picture)["passes"] is None


def test_a_threshold_of_mirrored_images_is_what_eval_flip_calibrates(
    trained: Console, people: Path, tmp_path: Path
):
    """Advice was ``reidpipe eval RUN``, which was there and has another kind of features."""
    first, second = pictures(people, 2)
    run = trained.json("score", "baseline-tiny", first, second)["run"]
    advice = f"reidpipe eval {run} --flip"
    told = trained("score", "baseline-tiny", first, second, "--flip").stdout
    assert f"no threshold yet; {advice} calibrates one" in told
    words = ("search", "baseline-tiny", first)
    assert advice in trained.mistake(*words, second.parent, "--flip", "--fpr", "0.1")
    trained("embed", "baseline-tiny", second.parent, "--flip", "--out", tmp_path / "g")
    assert advice in trained.mistake(*words, tmp_path / "g", "--fpr", "0.1")
    trained(*advice.split()[1:])
    assert trained.json("score", "baseline-tiny", first, second, "--flip")["threshold"] is not None
    assert trained.json(*words, tmp_path / "g", "--fpr", "0.1")["threshold"] is not None


@pytest.mark.slow
def test_score_of_a_sentence_is_the_cosine_where_the_towers_meet(
    clip_run: Console, clip_file: Path, people: Path
):
    from pipeline.images.pixels import open_image, resize
    from reid_train import load_model

    picture, other = pictures(people, 2)
    sentence = "a person in a red coat"
    found = clip_run.json("score", "clip-reid-tiny", picture, sentence)
    assert found["threshold"] is None and found["passes"] is None

    model = load_model(clip_run.root / "runs" / found["run"])
    pixels = torch.from_numpy(np.array(resize(open_image(picture), (64, 32), "bilinear")))
    tower = ClipText(**clip_tiny.TEXT, architecture="RN50", pretrained=str(clip_file)).eval()
    with torch.no_grad():
        image = model.features(pixels.permute(2, 0, 1)[None].float() / 255)["projected"]
        row = tower(tokenise([sentence]))  # open_clip's plain pass
    expected = torch.nn.functional.cosine_similarity(image, row).item()
    assert found["similarity"] == pytest.approx(expected, abs=1e-5)
    another = clip_run.json("score", "clip-reid-tiny", picture, "a person with a yellow bag")
    assert another["similarity"] != found["similarity"]
    text = clip_run("score", "clip-reid-tiny", picture, sentence).stdout
    assert "of the image and the sentence" in text and "no threshold" in text
    # The same run compares images too.
    assert -1 <= clip_run.json("score", "clip-reid-tiny", picture, other)["similarity"] <= 1


@pytest.mark.slow
def test_score_of_a_sentence_needs_the_weights_of_the_run(
    clip_run: Console, clip_file: Path, people: Path, tmp_path: Path
):
    (picture,) = pictures(people, 1)
    run = next(clip_run.root.glob("runs/clip-reid-tiny-*/run.json"))
    run.write_text(run.read_text().replace(str(clip_file), str(tmp_path / "gone.safetensors")))
    line = clip_run.mistake("score", "clip-reid-tiny", picture, "a red coat")
    assert f"found no {tmp_path / 'gone.safetensors'} with SHA-256" in line


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("nosuch", "a.png", "a.png"), ("found no run 'nosuch'",)),
        (("baseline-tiny", "no.png", "a.png"), ("found no file no.png",)),
        (("baseline-tiny", "a.png", "no.png"), ("found no file no.png", "IMAGE IMAGE")),
        (("baseline-tiny", "a.png", "text.jpg"), ("no image at text.jpg",)),
        (
            ("baseline-tiny", "a.png", "a person in red"),
            ("no text side in run 'baseline-tiny-folder-s0", "CLIP's text tower"),
        ),
        (
            ("baseline-tiny", "a.png", "a person in red, " * 16),  # 272 bytes
            ("no text side in run 'baseline-tiny-folder-s0",),
        ),
        (("baseline-tiny", "a.png"), ("B", "type reidpipe score -h")),
    ],
    ids=lambda value: " ".join(value),
)
def test_score_mistakes(
    trained: Console, words: tuple[str, ...], parts: tuple[str, ...], monkeypatch, tmp_path, people
):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(pictures(people, 1)[0], "a.png")
    Path("text.jpg").write_text("no image")
    line = trained.mistake("score", *words)
    assert all(part in line for part in parts), line
