"""The text side of recipes, worker by worker: features, prompts, rows, the image encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.artifacts.atomic import read_json, write_json
from pipeline.artifacts.steps import Job, Step
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP, PASCAL
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train import load_model
from reid_train.data.features import FeatureBatches, FrozenFeatures
from reid_train.engine import loop
from reid_train.models.text_table import TextTable
from reid_train.recipe import steps, work
from reid_train.recipe.assembly import build_task, count_sides
from reid_train.recipe.loading import load_recipe
from tests.reid_train.people import people

SMALL = {
    "model.pretrained": "none",
    "stages.identity-prompts.epochs": "2",
    "stages.image.epochs": "2",
    "stages.image.data.ids": "4",
    "stages.image.data.images_per_id": "2",
    "input.size": "[64, 32]",
    "model.text.options": "{layers: 1, width: 32, heads: 2}",
    "model.options": "{width: 8, heads: 4}",
}
PARTS = {**SMALL, "stages.part-prompts.epochs": "2"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    _, rows, _ = people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    return folder


def leaf(name: str) -> Step:
    return Step(name, {})


def chain(recipe: str, *, seed: int = 0, overrides: dict[str, str] | None = None) -> Step:
    """The model step of a recipe over stand-ins for the dataset and its maps."""
    loaded = load_recipe(recipe, overrides or (PARTS if recipe == "pi-vl-tiny" else SMALL))
    maps = leaf("maps") if loaded.reads_maps else None
    return steps.model(leaf("index"), loaded, seed=seed, label_maps=maps)


def execute(step: Step, root: Path, inputs: Path, *, maps: Path | None = None) -> Path:
    """Run a step and all it needs in this process; its folder."""
    if step.name in ("index", "images", "maps"):
        return maps if maps and step.name == "maps" else inputs
    folder = root / step.name / step.key
    if not (folder / "done").exists():
        sources = {
            name: execute(source, root, inputs, maps=maps) for name, source in step.inputs.items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        params = json.loads(json.dumps(step.params))
        step.resolve()(Job(folder, params, sources, root, device="cpu"))
        (folder / "done").touch()
    return folder


def test_from_images_to_a_part_informed_model(tmp_path: Path, inputs: Path) -> None:
    step = chain("pi-vl-tiny")
    folder = execute(step, tmp_path, inputs)
    text = TextTable.load(
        tmp_path / "text" / step.inputs["text"].key, pids=[10, 20, 30, 40, 50, 60]
    )
    assert text.identities.shape == (6, 128)
    assert text.parts is not None and text.parts.shape == (6, 20, 128)
    assert text.part_names[:3] == ["background", "hat", "hair"]
    prompts = step.inputs["text"].inputs["prompts"]
    frozen = FrozenFeatures.load(tmp_path / "features" / prompts.inputs["features"].key)
    assert frozen.parts is not None and frozen.counts is not None
    # 4x2 cells of 16x16 pixels, each half person (surer, so it wins) and half background.
    assert set(frozen.counts.sum(0).nonzero().flatten().tolist()) == {2, 5, 16, 17}
    assert frozen.counts.sum(1).tolist() == [8] * 30
    model = load_model(folder)
    assert model(torch.rand(2, 3, 64, 32)).shape == (2, 8 * 32 + 128)


def test_seven_part_maps_give_seven_part_prompts(tmp_path: Path, inputs: Path) -> None:
    reader = LabelMapReader(inputs)
    table = LIP.map_to(PASCAL)
    with MapWriter(tmp_path / "maps", PASCAL, size=(64, 32)) as writer:
        for key in reader:
            label, confidence = reader[key]
            writer.add(key, table[label], confidence, source_size=(64, 32), source_digest="00")
    step = chain("pi-vl-tiny")
    folder = execute(step, tmp_path, inputs, maps=tmp_path / "maps")
    text = read_json(tmp_path / "text" / step.inputs["text"].key / "text.json")
    assert text["part_names"] == list(PASCAL.names) and len(PASCAL.names) == 7
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("recipe", ["pi-vl-tiny-h", "pi-vl-tiny-p", "pi-vl-tiny-w"])
def test_every_ablation_trains(tmp_path: Path, inputs: Path, recipe: str) -> None:
    settings = SMALL if recipe.endswith("h") else PARTS
    step = chain(recipe, overrides={**settings, "stages.image.epochs": "1"})
    folder = execute(step, tmp_path, inputs)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert 0 < lines[-1]["part-alignment/dense"] <= 4


def test_nothing_part_informed_is_left_for_inference(tmp_path: Path, inputs: Path) -> None:
    plain, parts = (
        execute(chain(name), tmp_path, inputs) for name in ("clip-reid-tiny", "pi-vl-tiny")
    )
    one, other = load_model(plain), load_model(parts)
    assert list(one.state_dict()) == list(other.state_dict())
    other.load_state_dict(one.state_dict())
    images = torch.rand(2, 3, 64, 32)
    assert torch.equal(one(images), other(images))


def test_prompts_learn_and_keep_the_order_of_identities(tmp_path: Path, inputs: Path) -> None:
    step = chain("clip-reid-tiny", overrides={**SMALL, "stages.identity-prompts.epochs": "30"})
    prompts = step.inputs["text"].inputs["prompts"]
    folder = execute(prompts, tmp_path, inputs)
    assert json.loads((folder / "prompts.json").read_text())["pids"] == [10, 20, 30, 40, 50, 60]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    epochs = [line["loss"] for line in lines if line["event"] == "epoch"]
    assert epochs[-1] < epochs[0] - 0.01
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["done", "log.csv", "log.jsonl", "prompts.json", "prompts.safetensors"]


def test_recipes_and_seeds_share_what_does_not_depend_on_them() -> None:
    names = ("clip-reid-tiny", "pi-vl-tiny", "pi-vl-tiny-h", "pi-vl-tiny-p", "pi-vl-tiny-w")
    given = steps.model
    asked = {
        name: given(leaf("index"), load_recipe(name), seed=0, pretrained="openai",
                    label_maps=leaf("maps"))
        for name in names
    }  # fmt: skip
    texts = {name: step.inputs["text"] for name, step in asked.items()}
    first = {name: _first(text.inputs["prompts"]) for name, text in texts.items()}
    assert len({step.key for step in first.values()}) == 1  # one stage 1 for all ablations
    assert texts["pi-vl-tiny"].key == texts["pi-vl-tiny-p"].key == texts["pi-vl-tiny-w"].key
    assert len({text.key for text in texts.values()}) == 3
    again = given(leaf("index"), load_recipe("clip-reid-tiny"), seed=1, pretrained="openai")
    other = again.inputs["text"].inputs["prompts"]
    assert other.key != first["clip-reid-tiny"].key
    assert other.inputs["features"].key == first["clip-reid-tiny"].inputs["features"].key


def _first(prompts: Step) -> Step:
    while "prompts" in prompts.inputs:
        prompts = prompts.inputs["prompts"]
    return prompts


def test_part_informed_recipes_ask_for_maps() -> None:
    with pytest.raises(ReidpipeError, match="pi-vl-tiny.*type --parsing"):
        steps.model(leaf("index"), load_recipe("pi-vl-tiny"), seed=0)


def test_texts_of_other_identities_are_refused(tmp_path: Path) -> None:
    TextTable(torch.zeros(2, 4), [1, 2]).save(tmp_path)
    with pytest.raises(ReidpipeError, match="2 identities"):
        TextTable.load(tmp_path, [2, 1])


@pytest.mark.parametrize("shape", [None, (3, 4), (2, 3), (3, 2, 4), (2, 2, 3)], ids=str)
def test_parts_of_other_identities_or_widths_are_damage(shape: Any, tmp_path: Path):
    rows = {"identities": torch.zeros(2, 4)} | ({"parts": torch.zeros(shape)} if shape else {})
    save_file(rows, tmp_path / "text.safetensors")
    write_json(tmp_path / "text.json", {"pids": [1, 2], "part_names": ["hat", "hair"]})
    with pytest.raises(DamagedFile, match="2 parts"):
        TextTable.load(tmp_path, [1, 2])


def test_stopped_prompt_tuning_goes_on_and_ends_the_same(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = chain("pi-vl-tiny").inputs["text"].inputs["prompts"]
    whole = execute(prompts, tmp_path / "whole", inputs)
    original = loop.save_state

    def stop_after_one_epoch(path: Path, state: dict) -> None:
        original(path, state)
        if state["epoch"] == 1:
            raise KeyboardInterrupt

    for _ in range(2):  # once in each of the two stages
        monkeypatch.setattr(loop, "save_state", stop_after_one_epoch)
        with pytest.raises(KeyboardInterrupt):
            execute(prompts, tmp_path / "parts", inputs)
        monkeypatch.setattr(loop, "save_state", original)
        earlier = prompts.inputs["prompts"]
        execute(earlier, tmp_path / "parts", inputs)
    parts = execute(prompts, tmp_path / "parts", inputs)
    name = work.PROMPTS
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_stopped_training_with_texts_goes_on_and_ends_the_same(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = chain("pi-vl-tiny")
    whole = execute(step, tmp_path, inputs)
    sources = {name: execute(source, tmp_path, inputs) for name, source in step.inputs.items()}
    job = Job(tmp_path / "again", json.loads(json.dumps(step.params)), sources, tmp_path,
              device="cpu")  # fmt: skip
    job.folder.mkdir()
    original = loop.save_state

    def stop_after_one_epoch(path: Path, state: dict) -> None:
        original(path, state)
        if state["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_after_one_epoch)
    with pytest.raises(KeyboardInterrupt):
        work.model(job)
    monkeypatch.setattr(loop, "save_state", original)
    work.model(job)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (job.folder / name).read_bytes()


def test_every_image_comes_once_an_epoch_and_processes_take_equal_shares() -> None:
    frozen = FrozenFeatures(torch.arange(11.0)[:, None], torch.arange(11), list(range(11)))
    source = FeatureBatches(frozen, batch=4, parts=False, seed=3)
    assert len(source) == 3
    sizes = [len(batch["labels"]) for batch in source.epoch(0, 0, 1)]
    assert sizes == [4, 4, 3]
    seen = torch.cat([batch["labels"] for batch in source.epoch(0, 0, 1)])
    assert sorted(seen.tolist()) == list(range(11))
    shares = [torch.cat([b["labels"] for b in source.epoch(0, rank, 2)]) for rank in (0, 1)]
    assert [len(share) for share in shares] == [6, 6]
    assert sorted(torch.cat(shares).tolist()) == sorted([*range(11), int(seen[0])])
    # The last batch has three of eleven: with more processes than that, none goes without.
    assert all(len(batch["labels"]) == 1 for rank in range(4) for batch in source.epoch(0, rank, 4))


def test_camera_tables_get_a_row_per_camera_of_the_dataset() -> None:
    recipe = load_recipe("clip-reid-vit-sie-olp")
    _, rows, _ = people_rows()
    assert count_sides(recipe, rows).model.options["cameras"] == 2
    unknown = [ImageRow(**{**_fields(rows[0]), "camid": None})]
    with pytest.raises(ReidpipeError, match="without camid"):
        count_sides(recipe, unknown)
    given = load_recipe("clip-reid-vit-sie-olp", {"model.options.cameras": "6"})
    assert count_sides(given, rows).model.options["cameras"] == 6
    with pytest.raises(ReidpipeError, match="without camid"):
        count_sides(given, [*rows, *unknown])


def people_rows() -> tuple[None, list[ImageRow], None]:
    rows = [
        ImageRow("a", "a", "train", 1, camid, None, "", None, 16, 32, "00") for camid in (0, 1, 0)
    ]
    return None, rows, None


def _fields(row: ImageRow) -> dict:
    return {name: getattr(row, name) for name in ImageRow.__dataclass_fields__}


def test_the_alignment_loss_reads_maps_and_trains_its_head(tmp_path: Path, inputs: Path) -> None:
    recipe = load_recipe("pi-vl-tiny", PARTS)
    texts = TextTable(torch.randn(3, 128), [1, 2, 3], torch.randn(3, 20, 128), ["x"] * 20)
    task: Any = build_task(recipe, classes=3, texts=texts)
    task.begin_stage("image")
    batch = {
        "images": torch.randint(0, 255, (6, 3, 64, 32), dtype=torch.uint8),
        "labels": torch.tensor([0, 0, 1, 1, 2, 2]),
        "label_maps": torch.full((6, 64, 32), 5, dtype=torch.uint8),
        "confidence": torch.ones(6, 64, 32),
    }
    losses, report = task.training_forward(batch)
    assert "part-alignment/dense" in losses and "accuracy/identity_text" in report
    losses["part-alignment/dense"].backward()
    assert task.heads["dense"].laterals[0].weight.grad.abs().sum() > 0
    erased = {**batch, "label_maps": torch.full((6, 64, 32), 255, dtype=torch.uint8)}
    assert float(task.training_forward(erased)[0]["part-alignment/dense"]) == 0.0
