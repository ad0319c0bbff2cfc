"""Manifests: every file is valid, policies hold, mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import yaml

from pipeline.datasets.catalogue import (
    list_manifests,
    load_manifest,
    manifest_files,
    parse_manifest,
)
from pipeline.datasets.manifest import Manifest
from pipeline.terminal.errors import ReidpipeError
from tests.pipeline.datasets.names import official_names

IDS = {
    "market1501", "dukemtmc_reid", "msmt17", "occluded_duke", "veri776", "vehicleid", "cargo",
    "agreid_v1", "agreid_v2", "cuhk03_np", "occluded_reid", "prid2011", "pku_reid", "col780",
    "ward", "sysu_mm01", "prcc", "ltcc", "lip", "atr", "cihp", "ccp", "pascal_person_part",
    "pascal_context_parts", "oxford_pets", "flowers102", "imagenet", "imagenet_v2",
    "imagenet_sketch", "imagenet_a", "imagenet_r", "mannequins", "folder", "classes",
}  # fmt: skip


def every() -> list[Manifest]:
    found = []
    for manifest in list_manifests():
        names = [f"{manifest.id}:{variant}" for variant in manifest.variants]
        found += [load_manifest(name) for name in names or [manifest.id]]
    return found


def content(name: str) -> dict:
    return yaml.safe_load(manifest_files()[name].read_text(encoding="utf-8"))


def test_all_datasets_are_there_and_valid_in_every_variant():
    assert {manifest.id for manifest in list_manifests()} == IDS
    assert len(every()) > len(IDS)


def test_ids_equal_file_names():
    for name in manifest_files():
        assert content(name)["id"] == name


@pytest.mark.parametrize(
    ("dataset", "resolved"),
    [
        ("msmt17", "msmt17:v1"),
        ("msmt17:v2", "msmt17:v2"),
        ("cuhk03_np", "cuhk03_np:detected"),
        ("vehicleid", "vehicleid:800"),
        ("col780", "col780"),
        ("col780:holdout-a", "col780:holdout-a"),
    ],
)
def test_variants_resolve(dataset: str, resolved: str):
    assert load_manifest(dataset).dataset == resolved


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(ReidpipeError, match="did you mean 'market1501'") as caught:
        load_manifest("market1051")
    assert "\n" not in str(caught.value)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(ReidpipeError, match="did you mean 'labeled'.*detected, labeled"):
        load_manifest("cuhk03_np:labelled")


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(ReidpipeError, match="did you mean 'aerial-ground'"):
        load_manifest("cargo").protocol("aerial-grund")


@pytest.mark.parametrize(
    "change",
    [
        {"homepage": "https://example.org/duke"},
        {"terms_url": "http://example.org"},
        {"notice": "mirrored at https://example.org/x.zip"},
        {"notice": "ask www.example.net"},
        {"archives": [{"name": "a.zip", "urls": ["https://example.org/a.zip"]}]},
        {"citation": ["see vision.example.edu"]},
    ],
)
def test_an_address_for_duke_is_rejected(change: dict):
    duke = content("dukemtmc_reid")
    assert parse_manifest(duke).policy == "never"
    with pytest.raises(ReidpipeError, match="policy 'never' allows no address"):
        parse_manifest(duke | change)


def test_occluded_duke_fetches_lists_and_never_images():
    manifest = content("occluded_duke")
    assert all(archive.content == "lists" for archive in parse_manifest(manifest).archives)
    archives = [*manifest["archives"], {"name": "images.zip"}]
    with pytest.raises(ReidpipeError, match="only lists may be archives"):
        parse_manifest(manifest | {"archives": archives})


def test_only_direct_datasets_have_addresses_of_images():
    for manifest in every():
        for archive in manifest.archives:
            if archive.content == "images" and archive.urls:
                assert manifest.policy == "direct", manifest.dataset
    market = content("market1501")
    archives = [{"name": "m.zip", "urls": ["https://example.org/m.zip"]}]
    with pytest.raises(ReidpipeError, match="policy 'manual' allows no fetched image"):
        parse_manifest(market | {"archives": archives})


def test_unknown_fields_and_unsourced_checksums_are_rejected():
    market = content("market1501")
    with pytest.raises(ReidpipeError, match="'licnse'"):
        parse_manifest(market | {"licnse": "x"})
    with pytest.raises(ReidpipeError, match="checksum_source"):
        parse_manifest(market | {"archives": [{"name": "a", "md5": "0" * 32}]})


def test_a_manifest_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_manifest("market1501").policy = "direct"  # type: ignore[misc]


def test_published_numbers():
    market = load_manifest("market1501")
    assert market.counts["gallery"].images.one_of == (15913,)  # type: ignore[union-attr]
    assert market.totals.files_official == 12936 + 19732
    assert market.totals.used_by_loader == 12936 + 3368 + 15913
    assert market.archives[0].md5 == "65005ab7d12ec1c44de4eeafe813e68a"
    veri = load_manifest("veri776").counts["train"].ids
    assert veri is not None and veri.one_of == (575, 576) and veri.severity == "warn"
    assert load_manifest("occluded_duke").overlap == 1870
    assert load_manifest("col780").overlap == 17


def test_holdouts_of_col780_are_disjoint_and_mirror_the_validation_set():
    held = {}
    for name in ("holdout-a", "holdout-b"):
        assign = load_manifest(f"col780:{name}").assign
        assert assign is not None and assign.query is not None
        queries = list(assign.query)
        held[name] = {int(query[:3]) for query in queries}
        assert len(queries) == len(set(queries)) == 28
        assert len(assign.train_ids) == 50
        assert held[name].isdisjoint(assign.train_ids) and len(held[name]) == 12
        assert set(assign.query_in_gallery) < set(queries)
        assert len(assign.query_in_gallery) == 17
        assert sum(query[4:6] == "01" for query in queries) == 17
        per_id = [sum(int(q[:3]) == pid for q in queries) for pid in held[name]]
        assert min(per_id) == 1 and max(per_id) == 5
    assert held["holdout-a"].isdisjoint(held["holdout-b"])


def test_drawn_training_identities_follow_their_seeds():
    import numpy as np

    for number in range(10):
        assign = load_manifest(f"prid2011:split-{number}").assign
        drawn = sorted(np.random.default_rng(number).permutation(200)[:100] + 1)
        assert assign is not None and list(assign.train_ids) == drawn
    assign = load_manifest("pku_reid").assign
    drawn = sorted(np.random.default_rng(114).permutation(114)[:57] + 1)
    assert assign is not None and list(assign.train_ids) == drawn
    assign = load_manifest("ward").assign
    drawn = sorted(np.random.default_rng(70).permutation(70)[:35] + 1)
    assert assign is not None and list(assign.train_ids) == drawn


def test_queries_of_ward_follow_their_seed():
    import numpy as np

    assign = load_manifest("ward").assign
    assert assign is not None and assign.query is not None
    images: Counter[str] = Counter(name[:8] for name in official_names("ward")["pool"])
    tested = sorted(pair for pair in images if int(pair[:4]) not in assign.train_ids)
    rng = np.random.default_rng(71)
    assert list(assign.query) == [f"{p}{rng.integers(images[p]) + 1:04d}.png" for p in tested]


def test_label_sets_and_templates():
    for manifest in every():
        if manifest.kind == "parsing":
            assert manifest.label_set is not None
        if manifest.kind == "classification":
            assert manifest.template is not None and "{}" in manifest.template
    assert load_manifest("oxford_pets").template == "a photo of a {}, a type of pet."


def test_loading_imports_no_torch():
    code = (
        "import sys; from pipeline.datasets import layouts, catalogue, protocols; "
        "import pipeline.datasets.layouts.counts; "
        "catalogue.list_manifests(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
