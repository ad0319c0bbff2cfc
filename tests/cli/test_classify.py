"""``reidpipe classify`` on small trees in the published layouts, with a small random CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline.artifacts.atomic import read_json
from reid_train import load_prompt_classifier
from reid_train.classify.tables import learner_rows
from tests.cli.conftest import Console
from tests.reid_train.models.small_clip import small_state
from tests.trees import lines, picture

PETS = ("abyssinian", "beagle", "egyptian_mau", "pug", "samoyed")
WNIDS = ("n01440764", "n02423022", "n03773504")
CPU = ("--device", "cpu")
SHORT = ("--set", "training.epochs=2", "--set", "training.batch=4", "--shots", "2")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "small.safetensors"
    save_file(small_state(), path)
    return path


def pets(folder: Path, *, split_file: bool = True) -> Path:
    """Five classes of 3 training, 1 validation and 2 test images each, not square."""
    root = folder / "oxford_pets"
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(PETS):
        for number in range(6):
            file = f"{name.capitalize()}_{number}.jpg"
            picture(root / "images" / file, size=(80, 64))
            part = "train" if number < 3 else "val" if number == 3 else "test"
            split[part].append([file, label, name])
    if split_file:
        (root / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    named = {part: [(Path(f).stem, label + 1) for f, label, _ in split[part]] for part in split}
    for part, listed in (("trainval", named["train"] + named["val"]), ("test", named["test"])):
        rows = [f"{stem} {number} 1 1" for stem, number in listed]
        lines(root / "annotations" / f"{part}.txt", rows)
    return root


def imagenet(folder: Path) -> Path:
    """Three classes; V2 and Sketch have all of them, A and R two."""
    root = folder / "imagenet"
    for wnid in WNIDS:
        for number in range(2):
            picture(root / "images" / "train" / wnid / f"{number}.JPEG", size=(64, 64))
        picture(root / "images" / "val" / wnid / "v.JPEG", size=(64, 64))
    names = "".join(f"{wnid} thing {place}\n" for place, wnid in enumerate(WNIDS))
    (root / "classnames.txt").write_text(names)
    trees = {
        "imagenetv2/imagenetv2-matched-frequency-format-val": ("0", "1", "2"),
        "imagenet-sketch/images": WNIDS,
        "imagenet-adversarial/imagenet-a": WNIDS[1:],
        "imagenet-rendition/imagenet-r": WNIDS[:2],
    }
    for tree, classes in trees.items():
        for place in classes:
            suffix = "JPEG" if "sketch" in tree or "v2" in tree else "jpg"
            picture(folder / tree / place / f"a.{suffix}", size=(64, 64))
    return root


@pytest.fixture
def with_pets(console: Console, tmp_path: Path) -> Console:
    console("prepare", "oxford_pets", "--root", pets(tmp_path / "data"), "--allow-mismatch")
    return console


def test_all_classes_with_two_seeds(with_pets: Console, clip: Path):
    words = ("classify", "zero-shot", "coop", "--dataset", "oxford_pets", "--pretrained", clip)
    words = (*words, *SHORT, "--seed", "1-2", *CPU)
    found = with_pets.json(*words)
    zero, coop = found["rows"]
    assert (zero["recipe"], zero["shots"], zero["seeds"]) == ("zero-shot", None, [])
    assert (coop["recipe"], coop["shots"], coop["seeds"]) == ("coop", 2, [1, 2])
    assert coop["figures"]["accuracy"]["n"] == 2 and zero["figures"]["accuracy"]["std"] is None
    assert coop["tests"]["accuracy"] == {"dataset": "oxford_pets", "classes": 5, "images": 10}
    assert (zero["parameters"], coop["parameters"]) == (0, 16 * 128)
    assert found["splits"] == ["split of oxford_pets: split file, as published"]
    # The draw, as JSON: two of each class's three training images.
    draws = sorted(with_pets.root.glob("artifacts/shots/*/shots.json"))
    assert len(draws) == 2
    for file in draws:
        rows = read_json(file)["train"]
        assert [label for _, label, _ in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert all(int(key[-5]) < 3 for key, _, _ in rows)
    # The learner is a file that loads by itself, with the authors' names.
    learner = Path(found["learners"][0]) / "model.safetensors"
    assert list(load_file(learner)) == ["prompt_learner.ctx"]
    assert not (learner.parent / "state.pt").exists()

    text = with_pets(*words).stdout
    assert "nothing to do: all " in text and " ± " in text and "% of CLIP" in text
    # Tested again from its file, it names the same images.
    again = with_pets.json(*words[:1], *words[2:], "--learner", learner)
    values = coop["figures"]["accuracy"]["values"]
    assert again["rows"][0]["figures"]["accuracy"]["values"] == values[:1]
    model = load_prompt_classifier("coop", clip=clip, learner=learner, class_names=PETS)
    assert model.input_size == (64, 64)


def test_base_to_new_learns_from_base_alone(with_pets: Console, clip: Path):
    words = ("classify", "maple", "cocoop", "--dataset", "oxford_pets", "--split", "base-new")
    extra = ("--pretrained", clip, "--set", "training.epochs=1", "--shots", "1", *CPU)
    # depth is of maple alone
    line = with_pets.mistake(*words, *extra, "--set", "depth=3")
    assert "depth is of maple" in line
    maple = with_pets.json(words[0], "maple", *words[3:], *extra, "--set", "depth=3")["rows"][0]
    cocoop = with_pets.json(words[0], "cocoop", *words[3:], *extra)["rows"][0]
    for row in (maple, cocoop):
        base, new = (row["figures"][part]["mean"] for part in ("base", "new"))
        expected = 2 * base * new / (base + new) if base + new else 0.0
        assert row["figures"]["H"]["mean"] == pytest.approx(expected)
        assert row["tests"]["base"] == {"dataset": "oxford_pets", "classes": 3, "images": 6}
        assert row["tests"]["new"] == {"dataset": "oxford_pets", "classes": 2, "images": 4}
    assert maple["parameters"] == 3 * (2 * 128 + 128 * 64 + 64)
    assert cocoop["parameters"] == 4 * 128 + (32 * 2 + 2) + (2 * 128 + 128)
    # Both learnt from the same draw, of all classes; from its base half.
    assert len(list(with_pets.root.glob("artifacts/shots/*/shots.json"))) == 1
    for file in with_pets.root.glob("artifacts/learner/*/model.json"):
        assert read_json(file)["classes"] == ["abyssinian", "beagle", "egyptian mau"]
        assert read_json(file)["training"]["images"] == 3


def test_a_split_of_our_own_is_said(console: Console, tmp_path: Path, clip: Path):
    console(
        "prepare",
        "oxford_pets",
        "--root",
        pets(tmp_path / "data", split_file=False),
        "--allow-mismatch",
    )
    words = ("classify", "zero-shot", "--dataset", "oxford_pets", "--pretrained", clip, *CPU)
    text = console(*words).stdout
    assert "split of oxford_pets: NOT the published one: split_zhou_OxfordPets.json not" in text


def test_transfer_to_other_datasets(with_pets: Console, tmp_path: Path, clip: Path):
    folder = tmp_path / "data"
    with_pets("prepare", "imagenet", "--root", imagenet(folder), "--allow-mismatch")
    words = ("classify", "zero-shot", "coop", "--dataset", "imagenet", "--split", "cross")
    words = (*words, "--target", "oxford_pets", "--pretrained", clip, *SHORT, *CPU)
    rows = with_pets.json(*words)["rows"]
    assert len(rows) == 2
    for row in rows:
        assert set(row["figures"]) == {"imagenet", "oxford_pets", "average"}
        assert row["figures"]["average"]["values"] == row["figures"]["oxford_pets"]["values"]
        assert row["tests"]["oxford_pets"]["classes"] == 5
        assert row["tests"]["imagenet"] == {"dataset": "imagenet", "classes": 3, "images": 3}


def test_domains_compare_with_their_own_names_alone(console: Console, tmp_path: Path, clip: Path):
    root = imagenet(tmp_path / "data")
    variants = {
        "imagenet_v2": "imagenetv2",
        "imagenet_sketch": "imagenet-sketch",
        "imagenet_a": "imagenet-adversarial",
        "imagenet_r": "imagenet-rendition",
    }
    console("prepare", "imagenet", "--root", root, "--allow-mismatch")
    for name, place in variants.items():
        console("prepare", name, "--root", root.parent / place, "--allow-mismatch")
    words = ("classify", "coop", "--split", "domain", "--pretrained", clip, *SHORT, *CPU)
    (row,) = console.json(*words)["rows"]
    assert set(row["figures"]) == {"imagenet", *variants, "average"}
    assert [row["tests"][name]["classes"] for name in variants] == [3, 3, 2, 2]
    assert row["parameters"] == 4 * 128  # as it is run in these comparisons: four vectors
    names = {
        report["dataset"]: [entry["name"] for entry in report["per_class"]]
        for report in map(read_json, console.root.glob("artifacts/accuracy/*/accuracy.json"))
    }
    assert names["imagenet_a"] == ["thing 1", "thing 2"]
    assert names["imagenet_r"] == ["thing 0", "thing 1"]


def test_attributes_of_generated_people(console: Console, few_people: None, clip: Path):
    words = ("classify", "zero-shot-tiny", "coop-tiny", "--pretrained", clip, *SHORT, *CPU)
    zero, coop = console.json(*words, "--attribute", "lower_colour")["rows"]
    assert coop["dataset"] == "mannequins" and coop["tests"] == zero["tests"]
    (learner,) = console.root.glob("artifacts/learner/*/model.json")
    assert all(
        name.startswith("person wearing ") and name.endswith(" trousers")
        for name in read_json(learner)["classes"]
    )
    # Nothing is changed about the images, so training read frozen features.
    provenance = read_json(learner.parent / "artifact.json")
    assert "features" in provenance["inputs"]


def test_speed(with_pets: Console, clip: Path):
    words = ("classify", "zero-shot", "cocoop", "--dataset", "oxford_pets", "--pretrained", clip)
    rows = with_pets.json(*words, "--speed", *CPU)["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["classes"] == 5 and set(row["images_per_s"]) == {"1", "4", "16", "64"}
        assert all(rate > 0 for rate in row["images_per_s"].values())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("RECIPE", "type reidpipe classify -h")),
        (("copo",), ("did you mean 'coop'?",)),
        (("coop", "--shots", "0"), ("found --shots 0", "type --shots 16")),
        (("coop", "--split", "cross"), ("--target oxford_pets",)),
        (("coop", "--target", "oxford_pets"), ("type --split cross",)),
        (("coop", "--split", "domain", "--dataset", "oxford_pets"), ("--dataset imagenet",)),
        (("coop", "--dataset", "market1501"), ("kind reid", "--dataset oxford_pets")),
        (("coop", "--set", "training.epoch=1"), ("did you mean 'training.epochs'?",)),
        (("coop", "--set", "training.batch=0"), ("training.batch",)),
        (("coop", "--set", "training.epochs=0"), ("found 0 for training.epochs;",)),
        (("coop", "--set", "view.crop_area=[1,0.5]"), ("smaller one first",)),
        (("coop", "--set", "training.optimiser.betas=[2,3]"), ("training.optimiser.betas.0",)),
        (("coop", "--pretrained", "opnai"), ("found no file opnai", "openai")),
        (("coop", "--learner", "none.pt"), ("found no file none.pt",)),
        (("zero-shot", "--set", "class_specific=true"), ("class_specific is of coop",)),
        (("coop", "--wording", "person"), ("expected one {}",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_are_found_before_anything_runs(
    console: Console, words: tuple[str, ...], parts: tuple[str, ...]
):
    line = console.mistake("classify", *words)
    assert all(part in line for part in parts), line
    assert not list(console.root.glob("artifacts/*/*"))


def test_class_specific_vectors_serve_no_other_classes(with_pets: Console, clip: Path):
    words = ("classify", "coop", "--dataset", "oxford_pets", "--pretrained", clip, *SHORT, *CPU)
    words = (*words, "--set", "class_specific=true")
    assert "type --set class_specific=false" in with_pets.mistake(*words, "--split", "base-new")
    (row,) = with_pets.json(*words)["rows"]
    assert row["parameters"] == 5 * 16 * 128


def test_recipes_lists_the_learners_and_what_they_train(console: Console):
    assert {row["recipe"] for row in console.json("recipes")} >= {"zero-shot", "coop", "maple"}
    rows = {row["recipe"]: row for row in learner_rows(parameters=True)}
    counted = {name: rows[name]["parameters"] for name in ("coop", "cocoop", "maple", "zero-shot")}
    assert counted == {"coop": 2_048, "cocoop": 35_360, "maple": 3_555_072, "zero-shot": 0}
    assert (rows["coop"]["stages"], rows["coop"]["input"]) == ("classify (50-200)", "224x224")
    assert (rows["cocoop-tiny"]["parameters"], rows["cocoop-tiny"]["input"]) == (
        4 * 128 + (128 * 8 + 8) + (8 * 128 + 128),
        "128x64",
    )
    assert console.json("recipes", "maple")["depth"] == 9


def test_an_unknown_attribute_names_the_nearest(console: Console, few_people: None, clip: Path):
    words = ("classify", "zero-shot-tiny", "--attribute", "uper_colour", "--pretrained", clip)
    line = console.mistake(*words, *CPU, notes=1)
    assert "did you mean 'upper_colour'?" in line


def test_people_never_seen_are_ranked_by_words_and_by_images(
    console: Console, few_people: None, clip: Path
):
    words = ("classify", "zero-shot-tiny", "coop-tiny", "--split", "people", "--pretrained", clip)
    zero, coop = console.json(*words, *SHORT, *CPU)["rows"]
    # The image tower is CLIP's own: whatever CoOp learnt, images rank images as before.
    for measure in ("image R1", "image mAP"):
        assert coop["figures"][measure]["mean"] == zero["figures"][measure]["mean"]
    assert coop["figures"]["text mAP"]["mean"] != zero["figures"]["text mAP"]["mean"]
    (learner,) = console.root.glob("artifacts/learner/*/model.json")
    learnt = read_json(learner)["classes"]
    assert len(learnt) == 4 and not any(name.startswith("A ") for name in learnt)
    (report,) = {
        (entry["classes"], entry["images"], entry["text"]["queries"], entry["image"]["queries"])
        for entry in map(read_json, console.root.glob("artifacts/retrieval/*/retrieval.json"))
    }
    assert report == (6, 36, 6, 12)
    # MaPLe moves the images.
    maple = ("classify", "maple", "--split", "people", "--pretrained", clip, *SHORT, *CPU)
    extra = ("--set", "depth=3", "--set", "view.test=whole", "--set", "training.optimiser.lr=1.0")
    (row,) = console.json(*maple, *extra)["rows"]
    assert row["figures"]["image mAP"]["mean"] != zero["figures"]["image mAP"]["mean"]
