"""Training of the small parser: batches, the task on the loop, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from parsing_models import load_parser
from parsing_models.networks.schp.network import SCHP, Widths
from parsing_models.parsers.schp import TINY_INPUT
from parsing_models.training.batches.mannequins import MannequinBatches, _mirror, augment, normalise
from parsing_models.training.small import initial, main, score
from parsing_models.training.task import ParsingTask
from pipeline.labels.sets import IGNORE, LIP

SMALL = Widths(layers=(1, 1, 1, 1), stem=4, planes=4, context=8, head=8, skip=4, edge=4)


def batches(count: int = 8, batch: int = 4) -> MannequinBatches:
    return MannequinBatches.render(count, (64, 32), batch=batch, seed=1)


def test_epochs_are_permutations_that_depend_on_seed_and_epoch_alone():
    source = batches()
    assert len(source) == 2
    first, again = list(source.epoch(0, 0, 1)), list(source.epoch(0, 0, 1))
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["images"], other["images"])
        assert torch.equal(one["labels"], other["labels"])
    assert not torch.equal(first[0]["images"], next(source.epoch(1, 0, 1))["images"])
    assert first[0]["images"].shape == (4, 3, 64, 32) and first[0]["labels"].dtype == torch.int64
    halves = [next(source.epoch(0, rank, 2))["images"].shape[0] for rank in (0, 1)]
    assert halves == [2, 2]


def test_augmented_labels_stay_labels():
    source = batches(8)
    images, labels = augment(source.images.float() / 255, source.labels, np.random.default_rng(0))
    assert images.min() >= 0 and images.max() <= 1
    assert set(labels.unique().tolist()) <= {*range(20), IGNORE}
    assert (labels != 0).float().mean() > 0.1


def test_without_strength_only_mirroring_and_bars_remain():
    source = batches(16)
    pixels = source.images.float() / 255
    images, labels = augment(pixels, source.labels, np.random.default_rng(0), 0.0)
    mirrored = torch.from_numpy(LIP.mirrored(source.labels.numpy())).long()
    seen = set()
    for row in range(16):
        bars = (images[row] == 0).all(0)
        for name, image, label in (
            ("kept", pixels[row], source.labels[row].long()),
            ("mirrored", pixels[row].flip(-1), mirrored[row]),
        ):
            if ((images[row] - image).abs().amax(0) < 0.02)[~bars].all():
                assert torch.equal(labels[row], torch.where(bars, 0, label))
                seen |= {name} | ({"barred"} if bars[:, 0].all() or bars[0].all() else set())
                break
        else:
            raise AssertionError(f"image {row} was changed otherwise")
    assert seen == {"kept", "mirrored", "barred"}


def test_mirroring_exchanges_sides_in_image_and_labels_together():
    labels = torch.zeros(40, 2, 4, dtype=torch.long)
    labels[:, :, 0] = 14
    images = torch.zeros(40, 3, 2, 4)
    images[:, :, :, 0] = 1.0
    images, labels = _mirror(images, labels, np.random.default_rng(0))
    mirrored = images[:, 0, 0, 3] == 1
    assert 5 < int(mirrored.sum()) < 35
    assert (labels[mirrored][:, :, 3] == 15).all() and (labels[~mirrored][:, :, 0] == 14).all()
    assert (labels[mirrored][:, :, :3] == 0).all()


def test_normalised_as_the_parser_does():
    image = np.full((*TINY_INPUT, 3), (30, 120, 220), dtype=np.uint8)
    parser = load_parser("schp-tiny", dict(SCHP(SMALL).state_dict()))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    seen = parser.to_input([image])[:, :, 4:-4, 4:-4]
    assert torch.allclose(normalise(pixels)[:, :, 4:-4, 4:-4], seen, atol=1e-5)


def test_smaller_copies_keep_labels_beside_their_pixels():
    source = batches(2)
    source.labels[:] = 0
    source.labels[:, :32] = 5
    source.images[:] = 0
    source.images[:, :, :32] = 200
    small = source.resized((32, 16))
    assert small.images.shape == (2, 3, 32, 16)
    assert torch.equal(small.images[:, 0] > 100, small.labels == 5)


def test_every_parameter_is_trained_by_some_loss():
    task = ParsingTask(SCHP(SMALL)).train()
    losses, report = task.training_forward(next(batches().epoch(0, 0, 1)))
    heads = {"fusion", "parsing"}
    assert set(losses) == heads | {f"{head}/lovasz" for head in heads} | {"edge"}
    torch.stack(list(losses.values())).sum().backward()
    idle = [name for name, p in task.named_parameters() if p.grad is None]
    assert idle == [] and 0 <= float(report["pixel_accuracy"]) <= 1


def test_initial_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    one, other, third = initial(0), initial(0), initial(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.conv2.weight, other.conv2.weight)
    assert not torch.equal(one.conv2.weight, third.conv2.weight)


SHORT = ("--images", "32", "--epochs", "1", "1", "2", "1", "--batch", "16", "--scored", "2")


@pytest.mark.slow
def test_the_command_writes_weights_that_load_and_says_how_they_were_made(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "again"):
        arguments = ["--out", str(folder), *SHORT]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0 and "mIoU" in result.output
    name = "schp-tiny.safetensors"
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    record = json.loads((tmp_path / "schp-tiny.json").read_text())
    assert "--images 32 --epochs 1 1 2 1" in record["command"] and record["seed"] == 0
    assert record["scores"]["images"] == 2 and "mannequins, seed 0" in record["scores"]["protocol"]
    assert len(record["cycles"]) == 3  # the average before each cycle, and after the last
    parser = load_parser("schp-tiny", tmp_path)
    assert parser.facts["weights_sha256"] == record["sha256"]
    assert score(parser, 2)["mIoU"] == record["scores"]["mIoU"]
    assert parser.label_set == LIP


@pytest.mark.slow
def test_a_small_segformer_comes_from_the_same_command(tmp_path: Path):
    arguments = ["--kind", "segformer-tiny", "--out", str(tmp_path), *SHORT]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "mIoU" in result.output
    record = json.loads((tmp_path / "segformer-tiny.json").read_text())
    parser = load_parser("segformer-tiny", tmp_path)
    assert "--kind segformer-tiny" in record["command"] and parser.label_set == LIP
    assert score(parser, 2)["mIoU"] == record["scores"]["mIoU"]
