"""clip-tiny and clip-tiny-vit: sentences, batches, the command, and the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.artifacts.atomic import sha256_file
from pipeline.labels.sets import LIP
from pipeline.mannequins import identity
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.clip.tiny.sizes import INPUT, TOWERS
from reid_train.models.clip.tiny.tower import image_rows
from reid_train.models.clip.towers import clip_state, clip_towers
from reid_train.models.clip.visual import ClipResNet, ClipVit
from reid_train.models.pretrained import text_state
from reid_train.models.prompts import tokenise
from reid_train.models.token_rows import IDS, ROWS, TABLE, expand
from reid_train.weights.captions import CaptionBatches, compact, vocabulary
from reid_train.weights.pretraining import balance, centre, initial, main, save
from reid_train.weights.sentences import KINDS, parts, sentence
from reid_train.weights.zero_shot import recall, score


def batches(people: int = 8, batch: int = 4) -> CaptionBatches:
    return CaptionBatches.render(people, 2, INPUT, world=5, batch=batch, seed=1)


def test_every_sentence_is_written_in_the_vocabulary():
    rng, words = np.random.default_rng(0), vocabulary()
    for pid in range(1, 200):
        who = identity(7, pid)
        said = [sentence(who, "tiled wall and fallen leaves", kind, rng) for kind in KINDS]
        places = compact(tokenise(said), words)
        assert torch.equal(places.argmax(1), tokenise(said).argmax(1))  # the end token
        assert torch.equal(words[places[0, :4]], tokenise(said)[0, :4])
    names = [f"A photo of a person's {name.replace('-', ' ')}." for name in LIP.names]
    assert compact(tokenise(names), words).max() == len(words) - 1
    with pytest.raises(KeyError, match="not in the vocabulary"):
        compact(tokenise(["A photo of a giraffe."]), words)


def test_parts_are_those_the_person_has():
    for pid in range(1, 60):
        who = identity(7, pid)
        named = parts(who, "grass")
        assert ("hat" in named) == (who.hat != "none")
        assert ("coat" in named) == (who.coat != "none")
        assert ("dress" in named) == (who.upper_type == "dress")
        assert ("skirt" in named) == ("skirt" in who.lower_type)
        assert not {"pants", "skirt"} <= set(named) and "none" not in " ".join(named.values())
        assert named["left-shoe"] == f"{who.shoes_colour} left shoe"


def test_batches_show_different_people_and_depend_on_seed_and_epoch_alone():
    source = batches()
    assert len(source) == 4 and len(list(source.epoch(0, 0, 1))) == 4
    source.augmentation = type(source.augmentation)()
    seen = []
    for batch in source.epoch(3, 0, 1):
        images = batch["images"].permute(0, 2, 3, 1).numpy()
        rows = [
            next(p for p in range(8) for k in (0, 1) if (source.pixels[p, k] == image).all())
            for image in images
        ]
        assert len(set(rows)) == len(rows) == 4
        seen += rows
    assert sorted(seen) == sorted([*range(8), *range(8)])
    one, again = (list(batches().epoch(1, 0, 1)) for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(one, again, strict=True) for key in a)
    assert not torch.equal(one[0]["images"], next(source.epoch(0, 0, 1))["images"])
    halves = [next(batches().epoch(1, rank, 2)) for rank in (0, 1)]
    for key, whole in one[0].items():
        assert torch.equal(torch.stack([h[key] for h in halves], 1).flatten(0, 1), whole)


def test_untrained_rows_are_fixed_and_trained_rows_kept():
    rows = torch.arange(6.0).view(2, 3)
    table = expand({IDS: torch.tensor([5, 49407]), ROWS: rows})[TABLE]
    assert table.shape == (49408, 3) and torch.equal(table[[5, 49407]], rows)
    others = table[6:49407]
    assert abs(float(others.std()) - 0.02) < 1e-3 and abs(float(others.mean())) < 1e-3
    assert torch.equal(expand({IDS: torch.tensor([5]), ROWS: rows[:1]})[TABLE][6:49407], others)
    plain = {"logit_scale": torch.ones(())}
    assert expand(plain) == plain


def test_recall_by_hand():
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.9, 0.8, 0.7, 0.1]])
    # caption 0 owns images 0 and 3, the best first; caption 1 owns 1 and 2, second and third
    found = recall(scores, torch.tensor([0, 1, 1, 0]))
    assert found == {"1": 0.5, "5": 1.0, "10": 1.0}


@pytest.mark.parametrize(("tower", "network"), [("resnet", ClipResNet), ("vit", ClipVit)])
def test_training_starts_from_features_that_differ(tower: str, network: type):
    task, source = initial(0, len(vocabulary()), tower), batches()
    assert isinstance(task.image, network)
    centre(task, source)
    rows = []
    layer = task.image.image_encoder.get_submodule(TOWERS[tower].centred)
    layer.register_forward_hook(lambda *call: rows.append(call[-1][:, 0]))
    with torch.no_grad():
        for batch in source.epoch(0, 0, 1):
            image_rows(task.image, batch["images"])
    found = torch.cat(rows)
    assert float(found.mean(0).abs().max()) < 1e-3
    assert float((found.std(0) - 1).abs().max()) < 0.05


@pytest.mark.parametrize(("tower", "network"), [("resnet", ClipResNet), ("vit", ClipVit)])
def test_saved_model_is_the_trained_one(tmp_path: Path, tower: str, network: type):
    words, source, path = vocabulary(), batches(), tmp_path / "tiny.safetensors"
    task = initial(0, len(words), tower)
    batch = next(source.epoch(0, 0, 1))
    balance(task, source)
    save(task, words, path)
    image = network(input_size=INPUT, pretrained=str(path), **TOWERS[tower].sizes)
    text = ClipText(architecture="RN50", pretrained=str(path), **clip_tiny.TEXT)
    said = ["A photo of a person wearing a red hat.", source.people[0].caption]
    with torch.no_grad():
        expected = image_rows(task.image.eval(), batch["images"])
        loaded = image_rows(image.eval(), batch["images"])
        assert torch.allclose(loaded, expected, rtol=1e-2, atol=1e-2)
        compared = clip_towers(*clip_state(path)).image.eval()
        same = compared((batch["images"].float() / 255 - 0.5) / 0.5)
        assert torch.allclose(same, loaded, rtol=1e-4, atol=1e-4)
        expected = task.text.encode_tokens(compact(tokenise(said), words))
        assert torch.allclose(text.encode_tokens(tokenise(said)), expected, rtol=1e-2, atol=1e-2)
    # lengths near the root of the scale: raw dot products are logits
    wanted = float(task.logit_scale.detach().exp().sqrt())
    assert abs(float(loaded.norm(dim=1).mean()) - wanted) < 0.5 * wanted


def test_the_other_tower_is_trained_saved_and_scored(tmp_path: Path):
    words = f"--out {tmp_path} --people 8 --images 1 --batch 4 --scored 1 --epochs 1".split()
    done = CliRunner().invoke(main, [*words, "--tower", "vit"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "clip-tiny-vit.json").read_text())
    weights = tmp_path / "clip-tiny-vit.safetensors"
    assert about["sha256"] == sha256_file(weights) and about["training"]["steps"] == 2
    assert "--tower vit" in about["command"] and about["scores"]["images"] == 16
    assert weights.stat().st_size < 4_000_000
    assert "resblocks.0" in " ".join(clip_state(weights)[0])
    assert not (tmp_path / "clip-tiny.safetensors").exists()
    before = weights.read_bytes()
    for changed in (["--lr", "1e-3"], ["--tower", "resnet"], ["--people", "4"]):
        other = CliRunner().invoke(main, [*words, "--tower", "vit", *changed])
        assert other.exit_code == 2 and f"({changed[0][2:]} " in other.output
    assert weights.read_bytes() == before


@pytest.mark.slow
def test_the_command_trains_saves_scores_and_resumes(tmp_path: Path):
    words = f"--out {tmp_path} --people 8 --images 2 --batch 4 --scored 2 --precision fp32".split()
    done = CliRunner().invoke(main, [*words, "--epochs", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "clip-tiny.json").read_text())
    weights = tmp_path / "clip-tiny.safetensors"
    assert about["sha256"] == sha256_file(weights) and about["training"]["steps"] == 8
    assert about["scores"]["captions"] == 2 and about["scores"]["images"] == 32
    before = weights.read_bytes()
    again = CliRunner().invoke(main, [*words, "--epochs", "2"], catch_exceptions=False)
    assert again.exit_code == 0 and weights.read_bytes() == before


@pytest.mark.parametrize("weights", clip_tiny.FILES.values(), ids=clip_tiny.FILES)
def test_shipped_weights_are_those_described(weights):
    about = json.loads(weights.with_suffix(".json").read_text())
    assert sha256_file(weights) == about["sha256"]
    assert weights.stat().st_size < 6_000_000
    assert len(text_state(weights, "RN50")[TABLE]) == 49408


@pytest.mark.slow
@pytest.mark.parametrize("weights", clip_tiny.FILES.values(), ids=clip_tiny.FILES)
def test_shipped_weights_keep_the_scores_they_state(weights):
    stated = json.loads(weights.with_suffix(".json").read_text())["scores"]
    found = score(weights)
    assert found["recall"]["10"] == pytest.approx(stated["recall"]["10"], abs=0.07)
    assert found["upper_colour"] == pytest.approx(stated["upper_colour"], abs=0.02)
    assert found["hat_balanced"] == pytest.approx(stated["hat_balanced"], abs=0.02)
