"""Every command on a few generated people: what it writes, says and gives as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.atomic import read_json
from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import list_manifests
from pipeline.datasets.withheld import GREY
from pipeline.mannequins import DEFAULTS
from reid_train.classify.recipe import list_learners
from reid_train.recipe.loading import list_recipes
from reid_train.search.drawing import FIRST, HEIGHT
from tests.cli.conftest import TRAIN, Console

METRICS = {
    "dataset", "protocol", "exclude", "queries", "valid_queries", "gallery", "mAP", "mINP", "cmc",
    "rerank", "recipe", "seed", "versions", "distance", "intervals", "chance",
}  # fmt: skip


def run_name(console: Console) -> str:
    return list_runs(Workspace(console.root))[-1].name


def test_prepare_without_arguments_makes_people(console: Console, few_people: None):
    text = console("prepare", "--size", "32x16").stdout
    assert text.splitlines()[0].split() == ["subset", "ids", "images", "cameras"]
    assert text.splitlines()[2].split() == ["train", "4", "24", "2"]
    assert "made 2 artifacts, reused 0" in text

    again = console.json("prepare", "--size", "32x16")
    assert again["made"] == [] and again["dataset"] == "mannequins"
    assert [row["images"] for row in again["counts"]] == [24, 12, 24]
    pixels = np.load(Path(again["images_folder"]) / "pixels.npy", mmap_mode="r")
    assert pixels.shape == (60, 32, 16, 3) and pixels.dtype == np.uint8
    header = (Path(again["index"]) / "index.csv").read_text().splitlines()[0]
    assert header.startswith("key,path,split,pid,camid,view,sequence,frame,width,height,digest")
    assert header.endswith(",label_path,caption")
    assert "nothing to do: all 2 artifacts exist" in console("prepare", "--size", "32x16").stdout


def test_prepare_looks_at_the_folder_again(console: Console, tmp_path: Path):
    root = tmp_path / "mine"
    for person in ("7", "9"):
        (root / person).mkdir(parents=True)
        Image.new("RGB", (16, 32), (int(person), 0, 0)).save(root / person / "a.png")
    first = console.json("prepare", "folder", "--root", root, "--size", "32x16")
    assert first["images"] == 2 and len(first["made"]) == 2
    Image.new("RGB", (16, 32), (99, 0, 0)).save(root / "9" / "b.png")
    # Registered: the second call needs no --root.
    second = console.json("prepare", "folder", "--size", "32x16")
    assert second["images"] == 3 and second["index"] != first["index"]


def test_prepare_packs_with_the_filter_that_was_typed(trained: Console):
    folders = [
        Path(trained.json("prepare", "folder", "--size", "32x16", "--filter", f)["images_folder"])
        for f in ("bicubic", "bilinear")
    ]
    bicubic, bilinear = (np.load(folder / "pixels.npy") for folder in folders)
    assert bicubic.shape == bilinear.shape and (bicubic != bilinear).any()


def test_parse_caches_maps_of_every_image(console: Console, few_people: None):
    from pipeline.labels.maps import LabelMapReader

    DEFAULTS.update(identities={"train": 1, "test": 1}, cameras=1, images=2)
    found = console.json("parse", "--device", "cpu")
    assert (found["dataset"], found["model"]) == ("mannequins", "schp-tiny")
    reader = LabelMapReader(Path(found["folder"]))
    assert len(reader) == found["images"] == 4 and found["failed"] == []
    label, confidence = reader[next(iter(reader))]
    assert label.shape == confidence.shape == (256, 128) and label.max() < 20
    assert "nothing to do" in console("parse", "--device", "cpu").stdout


def test_train_names_the_run_and_repeats_nothing(trained: Console):
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    found = trained.json(*words)
    assert found["run"] == run_name(trained) and found["made"] == []
    assert (found["identities"], found["images"], found["epochs"]) == (4, 24, 1)
    assert {"model.safetensors", "model.json", "log.jsonl", "artifact.json"} <= {
        path.name for path in Path(found["model"]).iterdir()
    }
    text = trained(*words).stdout
    assert "nothing to do: all 3 artifacts exist" in text
    assert f"next: reidpipe eval {found['run']}" in text


def test_another_seed_is_another_model(trained: Console):
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    first, second = trained.json(*words), trained.json(*words, "--seed", "1")
    weights = [(Path(f["model"]) / "model.safetensors").read_bytes() for f in (first, second)]
    assert weights[0] != weights[1] and len(second["made"]) == 1  # index and images are shared
    assert "-s1-" in second["run"]
    # Without a name the newest run is evaluated; a part of a name must mean one run.
    assert trained.json("eval")["run"] == second["run"]
    assert trained.json("eval", "baseline-tiny-folder-s0")["run"] == first["run"]
    assert "found 2 runs for 'baseline-tiny'" in trained.mistake("eval", "baseline-tiny")


def test_eval_writes_the_metrics_of_the_contract(trained: Console):
    found = trained.json("eval", "--rerank", "--flip", "--exclude", "none", "--report")
    metrics = json.loads((Path(found["folder"]) / "metrics.json").read_text())
    assert set(metrics) == METRICS
    assert {**metrics, **{k: found[k] for k in ("run", "folder", "report", "published")}} == found
    assert set(metrics["cmc"]) == {"1", "5", "10"}
    assert 0 <= metrics["mINP"] <= metrics["mAP"] <= 1
    assert metrics["cmc"]["1"] <= metrics["cmc"]["5"] <= metrics["cmc"]["10"] <= 1
    counted = tuple(metrics[name] for name in ("queries", "valid_queries", "gallery", "seed"))
    assert counted == (12, 12, 24, 0)
    assert (metrics["dataset"], metrics["protocol"]) == ("folder", "standard")
    assert (metrics["exclude"], metrics["recipe"]) == ("none", "baseline-tiny")
    assert metrics["rerank"]["k1"] == 20 and metrics["versions"]["torch"]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "<html" in page and f"{100 * metrics['mAP']:.1f}" in page
    assert "http://" not in page.replace("http://www.w3.org", "")  # self-contained


def test_eval_says_what_its_numbers_depend_on(trained: Console):
    text = trained("eval").stdout
    assert "95 % over 6 people: mAP " in text
    assert "excluded same-camera, 12 of 12 queries valid, 32x16, no flip" in text
    assert "nothing to do" in text and text.split()[:3] == ["run", "mAP", "Rank-1"]
    plain = trained.json("eval")
    assert plain["rerank"] is None and plain["exclude"] == "same-camera"
    assert trained.json("eval", "--exclude", "none")["mAP"] != plain["mAP"]


def test_eval_on_another_dataset(trained: Console, few_people: None):
    found = trained.json("eval", "--dataset", "mannequins")
    assert (found["dataset"], found["queries"]) == ("mannequins", 12)


def test_report_compares_runs(trained: Console):
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    names = [trained.json(*words, "--seed", seed)["run"] for seed in ("0", "1")]
    page = Path(trained.json("report", *names)["report"]).read_text(encoding="utf-8")
    assert all(name in page for name in names)
    assert "nothing to do" in trained("report", *names).stdout


def test_embed_writes_one_row_per_image(trained: Console, people: Path, tmp_path: Path):
    from reid_train.evaluation.embeddings import load_features

    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    source = sorted((people / "images" / "query").iterdir())
    for place, path in zip(("a.jpg", "deeper/b.jpg"), source, strict=False):
        (folder / place).write_bytes(path.read_bytes())
    (folder / "cut.jpg").write_bytes(source[2].read_bytes()[:300])
    found = trained.json("embed", run_name(trained), folder, "--out", tmp_path / "out")
    features, keys = load_features(tmp_path / "out")
    assert keys == ["a.jpg", "deeper/b.jpg"] and features.shape == (2, found["dimension"])
    assert list(found["damaged"]) == [str(folder / "cut.jpg")]

    # The same images were embedded by eval: same model, filter and size, so the same numbers.
    evaluated, names = load_features(Path(trained.json("eval")["folder"]))
    rows = [names.index(path.relative_to(people).as_posix()) for path in source[:2]]
    np.testing.assert_allclose(features, evaluated[rows], atol=1e-5)

    text = trained("embed", run_name(trained), folder).stdout
    assert "1 damaged images are left out" in text and "cut.jpg" in text
    assert (trained.root / "embeddings" / f"{run_name(trained)}-photos" / "features.npy").is_file()


def test_search_ranks_and_draws(trained: Console, people: Path, tmp_path: Path):
    gallery = people / "images" / "gallery"
    twin = sorted(gallery.iterdir())[5]
    picture = tmp_path / "found.png"
    words = ("search", run_name(trained), twin, gallery, "--top", "4", "--out", picture)
    found = trained.json(*words)
    similarities = [match["similarity"] for match in found["matches"]]
    assert similarities == sorted(similarities, reverse=True) and len(similarities) == 4
    # The query itself is in the gallery: it must come first, with similarity 1.
    assert found["matches"][0]["image"] == str(twin) and similarities[0] == pytest.approx(
        1, abs=1e-5
    )
    threshold = json.loads((Path(trained.json("eval")["folder"]) / "threshold.json").read_text())
    assert found["threshold"] == threshold["threshold"]
    assert [m["passes"] for m in found["matches"]] == [
        s >= threshold["threshold"] for s in similarities
    ]
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 5 * 64

    trained("cache", "rm", "evaluation")
    text = trained(*words).stdout
    assert f"no threshold yet; reidpipe eval {found['run']} calibrates one" in text
    assert trained.json(*words)["matches"][1]["passes"] is None


def test_search_draws_no_withdrawn_image(trained: Console, people: Path, tmp_path: Path):
    sources = sorted((people / "images" / "gallery").iterdir())[:2]
    sheets = []
    for name in ("0005_c2_f0046985.jpg", "ours.jpg"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(sources[0].read_bytes())
        words = ("search", run_name(trained), sources[1], folder, "--out", folder / "found.png")
        assert trained.json(*words)["matches"][0]["image"] == str(folder / name)
        sheets.append(np.asarray(Image.open(folder / "found.png")))
    # The query is the same on both; in place of the withdrawn match is a card.
    same = slice(-HEIGHT, None), slice(None, FIRST)
    assert (sheets[0][same] == sheets[1][same]).all()
    grey = [(sheet[:, FIRST:] == GREY).all(axis=2).mean() for sheet in sheets]
    assert grey[0] > 0.05 > 0.01 > grey[1]


def test_search_makes_a_removed_model_again(trained: Console, people: Path):
    gallery = people / "images" / "gallery"
    words = ("search", run_name(trained), next(gallery.iterdir()), gallery)
    before = trained.json(*words, "--device", "cpu")
    trained("cache", "rm", "model")
    again = trained(*words, "--json", "--device", "cpu")
    assert "making model" in again.stderr and json.loads(again.stdout) == before


def test_status_tells_what_was_left_unfinished(trained: Console):
    found = trained.json("status")
    assert {row["step"] for row in found["artifacts"]} >= {"index", "images", "model", "evaluation"}
    assert [row["run"] for row in found["runs"]] == [run_name(trained)]
    assert all(row["state"] == "complete" for row in found["artifacts"])
    next((trained.root / "artifacts" / "model").glob("*/artifact.json")).unlink()
    text = trained("status").stdout
    assert "1 unfinished" in text and "cache rm unfinished" in text
    assert "no artifacts yet" not in text
    trained("cache", "rm", "unfinished")
    assert "model" not in {row["step"] for row in trained.json("status")["artifacts"]}


def test_status_of_nothing(console: Console):
    assert "no artifacts yet: type reidpipe demo" in console("status").stdout
    assert console.json("status") == {
        "workspace": str(console.root), "artifacts": [], "runs": [], "running": [], "waiting": [],
    }  # fmt: skip


def test_cache_lists_and_removes(trained: Console):
    rows = trained.json("cache", "ls")
    model = next(row for row in rows if row["step"] == "model")
    assert model["about"] == "baseline-tiny seed 0" and model["bytes"] > 100_000
    assert f"{len(rows)} artifacts" in trained("cache", "ls").stdout
    removed = trained.json("cache", "rm", model["key"][:6])
    assert removed == [{"step": "model", "key": model["key"]}]
    assert not (trained.root / "artifacts" / "model" / model["key"]).exists()
    # The evaluation stands without it; training makes the same model again.
    assert "nothing to do" not in trained("report", run_name(trained)).stdout


def test_cache_verify_finds_and_repairs_damage(trained: Console):
    assert "all files are as they were made" in trained("cache", "verify").stdout
    assert trained.json("cache", "verify") == {"damaged": [], "repaired": False}
    words = ("prepare", "folder", "--size", "32x16", "--filter", "bilinear")
    pixels = Path(trained.json(*words)["images_folder"]) / "pixels.npy"
    data = bytearray(pixels.read_bytes())
    data[-1] ^= 1
    pixels.write_bytes(data)
    key = pixels.parent.name
    damaged = [{"step": "images", "key": key, "file": "pixels.npy"}]
    assert trained.json("cache", "verify", code=1) == {"damaged": damaged, "repaired": False}
    assert pixels.exists()
    text = trained("cache", "verify", "--repair", code=1).stdout
    assert f"damaged: images {key} pixels.npy" in text and "repeat the command" in text
    assert not pixels.exists()
    assert len(trained.json(*words)["made"]) == 1
    data[-1] ^= 1
    assert pixels.read_bytes() == data
    trained("cache", "verify")


def test_datasets(console: Console):
    listed = console.json("datasets")
    assert {row["id"] for row in listed} == {manifest.id for manifest in list_manifests()}
    text = console("datasets").stdout
    assert "751/12936" in text and "Citations: reidpipe datasets ID" in text
    one = console("datasets", "market1501").stdout
    assert "cite: " in one and "protocol " in one and "manual" in one
    assert console.json("datasets", "market1501")["id"] == "market1501"


def test_recipes(console: Console):
    listed = console.json("recipes")
    assert [row["recipe"] for row in listed] == [*list_recipes(), *list_learners()]
    assert [row["recipe"] for row in listed if not row["citation"]] == ["baseline-tiny"]
    assert "bignet" in console("recipes").stdout
    one = console.json("recipes", "baseline-tiny")
    assert one["model"]["trunk"] == "tiny" and one["input"]["size"] == [128, 64]
    assert "trunk: tiny" in console("recipes", "baseline-tiny").stdout


@pytest.mark.slow
def test_recipes_count_parameters(console: Console):
    rows = {row["recipe"]: row for row in console.json("recipes", "--parameters")}
    assert all(rows[name]["parameters"] > 0 for name in list_recipes())
    learnt = {name: rows[name]["parameters"] for name in ("zero-shot", "coop", "cocoop", "maple")}
    assert learnt == {"zero-shot": 0, "coop": 2_048, "cocoop": 35_360, "maple": 3_555_072}
    assert rows["baseline-tiny"]["parameters"] < 1_000_000 < rows["baseline-vit"]["parameters"]


def test_doctor(console: Console):
    found = console.json("doctor")
    assert found["versions"]["torch"] and "cpu" in found["devices"] and found["free_bytes"] > 0
    assert found["workspace"] == str(console.root) and set(found["parsers"]) >= {"schp"}
    assert found["parsers"]["schp-tiny"].endswith(".safetensors")
    text = console("doctor").stdout
    assert "parser schp-tiny: ready" in text and "GoGoDuck912" in text
    assert not console.root.exists()  # looking changes nothing


SHORT = (
    "stages.identity-prompts.epochs=1",
    "stages.part-prompts.epochs=1",
    "stages.image.epochs=1",
    "stages.image.data.ids=2",
    "stages.image.data.images_per_id=2",
    "model.options={width: 8, heads: 4}",
    "model.text.options={layers: 1, width: 32, heads: 2}",
)


def test_part_informed_training_reads_the_maps_of_a_parser_and_others_do_not(
    trained: Console,
) -> None:
    settings = [word for value in SHORT for word in ("--set", value)]
    words = ("--dataset", "folder", "--device", "cpu")
    parsing = ("--parsing", "schp-tiny")
    told = trained.json("train", "pi-vl-tiny", *words, *parsing, "--pretrained", "none", *settings)
    provenance = read_json(Path(told["model"]) / "artifact.json")
    assert set(provenance["inputs"]) == {"index", "images", "maps", "text"}
    assert provenance["inputs"]["maps"]["params"]["model"] == "schp-tiny"
    metrics = trained.json("eval", told["run"])
    assert metrics["recipe"] == "pi-vl-tiny" and 0 <= metrics["mAP"] <= 1
    plain = trained.json("train", "baseline-tiny", *words, *TRAIN)
    assert set(read_json(Path(plain["model"]) / "artifact.json")["inputs"]) == {"index", "images"}
    line = trained.mistake("train", "baseline-tiny", *words, *parsing, *TRAIN)
    assert "found --parsing for baseline-tiny, which reads no label maps" in line
