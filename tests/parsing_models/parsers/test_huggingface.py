"""Hugging Face models as parsers: equal to transformers' own way, labels by name, refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from parsing_models import load_parser
from parsing_models.commands import maps_step
from parsing_models.parsers import hub
from parsing_models.parsers.huggingface import HuggingFaceParser, load_segformer
from pipeline.artifacts.steps import Job, Step
from pipeline.artifacts.store import Workspace
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import ATR, LIP, PASCAL
from pipeline.mannequins import DEFAULTS, checked, render
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from tests.cli.conftest import SMALL, Console

# As the published SegFormers for clothes spell them.
NAMES = [name.capitalize() for name in ATR.names]
PROCESSOR = {
    "image_processor_type": "SegformerImageProcessor",
    "size": {"height": 64, "width": 64},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "do_reduce_labels": False,
}


def spread(model: Any, classifier: Any, size: tuple[int, int] = (64, 32)) -> None:
    """Scale and centre a random classifier, so that maps show many classes."""
    with torch.no_grad():
        logits = model(pixel_values=torch.randn(8, 3, *size)).logits
        scale = logits.std((0, 2, 3)) + 1e-6
        classifier.weight *= 3 / scale[:, None, None, None]
        classifier.bias.copy_(3 * (classifier.bias - logits.mean((0, 2, 3))) / scale)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random SegFormer with ATR's names, as ``save_pretrained`` writes it."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    where = tmp_path_factory.mktemp("models") / "clothes"
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[4, 8, 8, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(NAMES)),
        label2id={name: number for number, name in enumerate(NAMES)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SegformerForSemanticSegmentation(config).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight)
        spread(model, model.decode_head.classifier)
    model.save_pretrained(where)
    (where / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return where


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Three upright images of blocks, uint8 3,128,64,3."""
    blocks = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    return blocks.repeat(8, 1).repeat(8, 2)


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``changed(config=..., processor=..., without=...)``: a copy of the model, altered."""

    def make(
        config: Callable[[dict], Any] = lambda _: None,
        processor: Callable[[dict], Any] = lambda _: None,
        without: str | None = None,
    ) -> Path:
        copy = tmp_path / "changed"
        shutil.copytree(folder, copy)
        for name, change in (("config.json", config), ("preprocessor_config.json", processor)):
            value = json.loads((copy / name).read_text())
            change(value)
            (copy / name).write_text(json.dumps(value))
        if without:
            (copy / without).unlink()
        return copy

    return make


def rename(old: str, new: str) -> Callable[[dict], None]:
    def change(config: dict) -> None:
        config["id2label"] = {
            number: new if name == old else name for number, name in config["id2label"].items()
        }

    return change


def own_way(folder: Path, images: Any, size: tuple[int, int]) -> tuple[Any, Any, Any]:
    """transformers' processor and model: (processor, pixel values at 64x32, outputs)."""
    from transformers import AutoModelForSemanticSegmentation, SegformerImageProcessor

    processor = SegformerImageProcessor.from_pretrained(folder, size={"height": 64, "width": 32})
    pixels = processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        outputs = AutoModelForSemanticSegmentation.from_pretrained(folder)(pixels)
    return processor, pixels, outputs


def test_maps_are_those_of_transformers(folder: Path, images: Any):
    parser: Any = load_parser(f"hf:{folder}", label_set="atr")
    assert isinstance(parser, HuggingFaceParser) and parser.label_set == ATR
    assert parser.input_size == (64, 32)
    size = (96, 48)
    processor, pixels, outputs = own_way(folder, images, size)
    # One grey level of 255 over the smallest std: roundings may differ by that.
    assert (parser.to_input(images) - pixels).abs().max() < 1.01 / 255 / 0.2
    own = processor.post_process_semantic_segmentation(outputs, [size] * 3)
    own = np.stack([each.numpy() for each in own])
    assert len(np.unique(own)) > 8
    found = parser.parse(images, size)
    assert (np.asarray(found.label) == own).mean() > 0.97  # grey levels that round the other way
    with torch.inference_mode():
        outputs.logits = parser.network(parser.to_input(images))
    same = processor.post_process_semantic_segmentation(outputs, [size] * 3)
    np.testing.assert_array_equal(found.label, np.stack([each.numpy() for each in same]))
    resized = F.interpolate(outputs.logits, size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(
        np.asarray(found.confidence), resized.softmax(1).amax(1).numpy(), atol=1e-6
    )


def test_merged_classes_are_summed_as_probabilities(folder: Path, images: Any):
    parser: Any = load_parser(f"hf:{folder}")
    assert parser.label_set == LIP
    table = ATR.map_to(LIP)
    inputs = parser.to_input(images)
    with torch.inference_mode():
        logits = parser.network(inputs)
        p = F.interpolate(logits, (96, 48), mode="bilinear", align_corners=False).softmax(1).numpy()
    expected = np.zeros((3, 20, 96, 48), np.float32)
    for theirs, ours in enumerate(table):
        expected[:, ours] += p[:, theirs]
    found = parser.parse(images, (96, 48))
    np.testing.assert_allclose(np.asarray(found.confidence), expected.max(1), atol=1e-5)
    assert (found.label == expected.argmax(1)).mean() > 0.999
    # A sum wins where neither of its parts does: argmax first, then names, would differ.
    assert (found.label != table[p.argmax(1)]).any()


def test_order_and_spelling_of_labels_do_not_matter(
    folder: Path, changed: Callable[..., Path], images: Any
):
    order = np.random.default_rng(1).permutation(18)
    where = changed(
        lambda config: config.update(
            id2label={
                str(new): NAMES[old].upper().replace("-", "_ ") for new, old in enumerate(order)
            }
        )
    )
    state = load_file(where / "model.safetensors")
    for name in ("weight", "bias"):
        key = f"decode_head.classifier.{name}"
        state[key] = state[key][torch.from_numpy(order)].contiguous()
    save_file(state, where / "model.safetensors", {"format": "pt"})
    one, other = (load_parser(f"hf:{each}").parse(images) for each in (folder, where))
    assert (np.asarray(one.label) == np.asarray(other.label)).mean() > 0.9999
    np.testing.assert_allclose(np.asarray(one.confidence), np.asarray(other.confidence), atol=1e-5)


def test_flip_exchanges_sides(folder: Path, images: Any):
    parser: Any = load_parser(f"hf:{folder}")
    one = parser.parse(images, (64, 32), flip=True, scales=(1.0, 1.5))
    other = parser.parse(images[:, :, ::-1], (64, 32), flip=True, scales=(1.0, 1.5))
    assert (one.label == LIP.mirrored(np.asarray(other.label))).mean() > 0.999
    plain = parser.parse(images, (64, 32))
    assert (one.label != np.asarray(plain.label)).any()


def test_flip_leaves_limbs_without_sides_in_place(
    folder: Path, images: Any, tmp_path: Path, changed: Callable[..., Path]
):
    """Pascal's arms are LIP's left arm, which no right one may take the place of."""
    where = changed(lambda config: config.update(id2label=dict(enumerate(PASCAL.names))))
    state = load_file(where / "model.safetensors")
    for name in ("weight", "bias"):
        key = f"decode_head.classifier.{name}"
        state[key] = state[key][: len(PASCAL)].clone()
    save_file(state, where / "model.safetensors", {"format": "pt"})
    parser: Any = load_parser(f"hf:{where}")
    # Of images that are their own mirror, both views say nearly the same.
    even = np.concatenate([images[:, :, :32], images[:, :, 31::-1]], 2)
    plain, flipped = (parser.parse(even, (64, 32), flip=flip) for flip in (False, True))
    before, after = np.asarray(plain.label), np.asarray(flipped.label)
    limbs = np.isin(before, (9, 14))
    assert limbs.mean() > 0.1 and (after == before)[limbs].mean() > 0.7

    # Maps that lost such limbs are not read again; those of all others are.
    terminal, index = Terminal(Workspace(tmp_path), as_json=True), Step("index", {"dataset": "a"})

    def params(model: Path, **more: Any) -> Any:
        return maps_step(terminal, index, f"hf:{model}", **more).params.get("one_sided")

    assert params(where, flip=True) == "kept" and params(where) is None
    assert params(where, flip=True, settings=("label_set=pascal",)) is None
    assert params(folder, flip=True) is None


def test_images_of_any_size_keep_their_own(folder: Path, images: Any):
    parser: Any = load_parser(f"hf:{folder}", memory_mib=1)
    given = [images[0], images[1, :50, :31], images[2, :1, :1]]
    maps = parser.parse(given, None)
    assert [label.shape for label in maps.label] == [(128, 64), (50, 31), (1, 1)]
    alone = parser.parse([given[1]], None)
    np.testing.assert_array_equal(maps.label[1], alone.label[0])


def test_segformer_from_config_and_state(folder: Path, images: Any):
    whole: Any = load_parser(f"hf:{folder}")
    config = json.loads((folder / "config.json").read_text())
    state = load_file(folder / "model.safetensors")
    given: dict[str, Any] = {"name": "small", "preprocessing": whole.preprocessing}
    parser = load_segformer(config, state, **given)
    np.testing.assert_array_equal(
        np.asarray(parser.parse(images).label), np.asarray(whole.parse(images).label)
    )
    del state["decode_head.classifier.bias"]
    with pytest.raises(ReidpipeError, match="first 'decode_head.classifier.bias'"):
        load_segformer(config, state, **given)


def refused(kind: str, match: str, **options: Any) -> str:
    with pytest.raises(ReidpipeError, match=match) as caught:
        load_parser(kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_label_is_named(changed: Callable[..., Path]):
    where = changed(rename("Bag", "Purse"))
    text = refused(f"hf:{where}", "found label 'Purse' in hf:changed")
    assert "--label-map FILE.json" in text
    ours = dict(zip(NAMES, ATR.names, strict=True)) | {"belt": "pants", "purse": "background"}
    del ours["Bag"], ours["Belt"]
    parser = load_parser(f"hf:{where}", label_map=ours)
    assert isinstance(parser, HuggingFaceParser)
    assert parser.sources[0] == (0, 16) and parser.sources[9] == (6, 8)
    some = {name: ours[name] for name in NAMES[:8]}
    refused(f"hf:{where}", "no entry for label 'Belt' and 9 more of hf:changed", label_map=some)
    wrong = ours | {"Pants": "pantz"}
    refused(f"hf:{where}", r"'pantz' \(did you mean 'pants'\?\) for label 'Pants'", label_map=wrong)
    refused(f"hf:{where}", "found 'tail' .*in the label map", label_map=ours | {"tail": "hat"})


def test_wrong_folders_are_refused(changed: Callable[..., Path], tmp_path: Path):
    refused(f"hf:{tmp_path}", "no config.json in folder")
    refused(f"hf:{tmp_path / 'absent'}", "no folder")
    refused("hf:", "without a model")
    where = changed()
    refused(f"hf:{where}", "beside parser", weights=where)
    refused(f"hf:{where}", "state dict", weights={"a": torch.zeros(1)})
    refused(f"hf:{where}", "option 'label_mapp'.*'label_map'", label_mapp={})
    refused(f"hf:{where}", "label set 'lipp'.*'lip'", label_set="lipp")
    (where / "model.safetensors").unlink()
    refused(f"hf:{where}", "no weights in folder")


def test_model_of_another_task_is_refused(changed: Callable[..., Path]):
    def classifier(config: dict) -> None:
        config["architectures"] = ["SegformerForImageClassification"]

    refused(f"hf:{changed(classifier)}", "found SegformerForImageClassification")


def test_model_of_an_unknown_type_is_refused(changed: Callable[..., Path]):
    where = changed(lambda config: config.update(model_type="resnet", architectures=[]))
    refused(f"hf:{where}", "type 'resnet'.*segformer")


def test_a_config_that_builds_no_network_is_refused(changed: Callable[..., Path]):
    where = changed(lambda config: config.update(strides=["wide"] * 4))
    refused(f"hf:{where}", "changed")


def test_trunk_without_a_head_is_refused(changed: Callable[..., Path]):
    where = changed()
    state = load_file(where / "model.safetensors")
    trunk = {key: value for key, value in state.items() if not key.startswith("decode_head")}
    save_file(trunk, where / "model.safetensors", {"format": "pt"})
    refused(f"hf:{where}", "weights missing in .*first 'decode_head.batch_norm")
    state["decode_head.classifier.bias"] = torch.zeros(5)
    save_file(state, where / "model.safetensors", {"format": "pt"})
    refused(f"hf:{where}", "1 weights of another shape.*'decode_head.classifier.bias'")


@pytest.mark.parametrize("key", ["do_reduce_labels", "reduce_labels"])
def test_shifted_labels_are_refused(changed: Callable[..., Path], key: str):
    where = changed(processor=lambda processor: processor.update({key: True}))
    refused(f"hf:{where}", f"{key} true")


def test_hub_models_come_from_the_cache_or_are_missed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = refused("hf:owner/clothes", "no model owner/clothes in the cache")
    assert "hf download owner/clothes" in text
    commit = "0123456789" * 4
    saved = tmp_path / "models--owner--clothes"
    (saved / "refs").mkdir(parents=True)
    (saved / "refs" / "main").write_text(commit)
    shutil.copytree(folder, saved / "snapshots" / commit)
    found = hub.read(hub.folder_of("hf:owner/clothes"))
    assert found.name == "hf:owner/clothes@012345678901"
    assert set(found.files) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert hub.folder_of(f"hf:owner/clothes@{commit}") == found.folder
    refused("hf:owner/clothes@other", "no model owner/clothes")


WATCHED = (
    "import json, sys, cli\n"
    "try:\n    cli.main(json.loads(sys.argv[1]))\n"
    "finally:\n    print('LOADED', [n for n in ('torch', 'transformers') if n in sys.modules])\n"
)


def test_parse_from_the_command_line(folder: Path, changed: Callable[..., Path], tmp_path: Path):
    people = tmp_path / "people"
    small = SMALL | {"identities": {"train": 1, "test": 1}}
    render(Job(folder=people, params=checked(DEFAULTS | small), inputs={}, workspace=people))
    (people / "dataset.json").unlink()
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people)
    told = console.json("parse", "folder", "--model", f"hf:{folder}", "--device", "cpu")
    reader = LabelMapReader(Path(told["folder"]))
    assert len(reader) == told["images"] > 0 and reader.label_set == LIP

    # The same model elsewhere is the same model; nothing heavy is needed to see that.
    moved = shutil.copytree(folder, tmp_path / "moved")
    words = ["--workspace", str(console.root), "parse", "folder", "--model", f"hf:{moved}"]
    process = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(words)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nothing to do" in process.stdout and "LOADED []" in process.stdout

    renamed = changed(rename("Hat", "Cap"))
    text = console.mistake("parse", "folder", "--model", f"hf:{renamed}")
    assert "found label 'Cap'" in text and "--label-map" in text
    table = tmp_path / "labels.json"
    to_lip = [LIP.names[ours] for ours in ATR.map_to(LIP)]
    table.write_text(json.dumps(dict(zip(NAMES, to_lip, strict=True)) | {"Cap": "hat"}))
    text = console.mistake("parse", "folder", "--model", f"hf:{renamed}", "--label-map", table)
    assert "found 'Hat'" in text
    ours = dict(zip(NAMES, to_lip, strict=True)) | {"Cap": "hat"}
    del ours["Hat"]
    table.write_text(json.dumps(ours))
    words = ("parse", "folder", "--model", f"hf:{renamed}", "--label-map", table)
    again = console.json(*words, "--device", "cpu")
    assert again["folder"] != told["folder"]
    other = LabelMapReader(Path(again["folder"]))
    for key in reader.keys:
        np.testing.assert_array_equal(reader[key][0], other[key][0])
    text = console.mistake("parse", "folder", "--label-map", table)
    assert "--label-map for parser 'schp-tiny'" in text
