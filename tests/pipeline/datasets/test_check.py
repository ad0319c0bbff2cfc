from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.check import check_rows
from pipeline.datasets.index import ImageRow


def row(
    name: str, split: str, pid: int | None, camid: int | None = 0, digest: str | None = None
) -> ImageRow:
    path = f"{split}/{name}"
    return ImageRow(path, path, split, pid, camid, None, "", None, 8, 8, digest or path)


def test_counts_per_subset() -> None:
    rows = [
        row("a", "train", 1, 0), row("b", "train", 1, 1), row("c", "train", 2, 4),
        row("a", "query", 7, 0), row("a", "gallery", 7, 1), row("b", "gallery", 0, 1),
    ]  # fmt: skip
    found = check_rows(rows)
    assert [tuple(entry[name] for name in ("subset", "ids", "images", "cameras"))
            for entry in found.counts] == [
        ("train", 2, 3, 3), ("query", 1, 1, 1), ("gallery", 2, 2, 1),
    ]  # fmt: skip
    assert found.lines == [] and found.unmatched_queries == []
    json.dumps(found.plain())


def test_queries_without_a_match_are_counted_and_the_first_five_named() -> None:
    rows = [row("good", "query", 1, 0), row("good", "gallery", 1, 1)]
    # Identity 2 is absent from the gallery, identity 3 is there from the same camera only.
    rows += [row(f"{n}", "query", 2) for n in range(4)]
    rows += [row("same", "query", 3, 5), row("same", "gallery", 3, 5), row("x", "query", 4)]
    found = check_rows(rows)
    assert (found.queries, found.exclude) == (7, "same-camera")
    assert found.unmatched_queries == [
        "query/0", "query/1", "query/2", "query/3", "query/same", "query/x",
    ]  # fmt: skip
    assert found.lines == [
        "warning: 6 of 7 queries have no gallery image of their identity from another camera, so "
        "they do not count in mAP and CMC: query/0, query/1, query/2, query/3, query/same and 1 "
        "more"
    ]


def test_no_query_with_a_match_is_an_error_with_the_cure() -> None:
    found = check_rows([row("a", "query", 1, 0), row("a", "gallery", 1, 0)])
    assert found.lines[0].startswith("error: 1 of 1 queries")
    assert "--exclude same-image or none" in found.lines[0]
    nobody = check_rows([row("a", "query", None), row("a", "gallery", None, 1)])
    assert nobody.unmatched_queries == ["query/a"]


def test_without_cameras_the_rule_is_none_and_told() -> None:
    rows = [row("a", "query", 1, None), row("b", "gallery", 1, None), row("c", "query", 2, None)]
    found = check_rows(rows)
    assert (found.exclude, found.unmatched_queries, found.without_camera) == (
        "none",
        ["query/c"],
        3,
    )
    assert "no camera ids; evaluate with --exclude same-image or none" in found.lines
    partly = check_rows([*rows, row("d", "gallery", 2, 1)])
    assert (partly.exclude, partly.unmatched_queries) == ("same-camera", [])
    assert "warning: 3 of 4 images have no camera id" in partly.lines


def test_equal_bytes_within_and_across_splits_are_named() -> None:
    rows = [
        row("a", "train", 1, 0, "same1"), row("b", "train", 1, 0, "same1"),
        row("a", "query", 7, 0, "same2"), row("a", "gallery", 7, 0, "same2"),
        row("b", "gallery", 7, 1), row("c", "gallery", 8, 1, "same1"),
    ]  # fmt: skip
    found = check_rows(rows)
    assert found.repeated == {"train": [["train/a", "train/b"]]}
    assert found.query_in_gallery == [["query/a", "gallery/a"]]
    assert found.train_in_test == [["train/a", "gallery/c"], ["train/b", "gallery/c"]]
    assert found.two_identities == [["train/a", "train/b", "gallery/c"]]
    assert "1 of 1 query images are also in the gallery, byte for byte; " \
        "the same-camera rule leaves these pairs out:" in found.lines  # fmt: skip
    assert "  query/a = gallery/a" in found.lines
    assert "warning: 2 train images are also test images, byte for byte:" in found.lines


def test_val_images_in_the_test_set_are_named() -> None:
    rows = [
        row("a", "val", 1, 0, "same1"), row("b", "val", 1, 0, "same2"), row("c", "val", 2, 0),
        row("a", "query", 1, 0, "same1"), row("b", "gallery", 1, 1, "same2"),
        row("a", "train", 3, 0, "same3"), row("d", "val", 3, 0, "same3"),
    ]  # fmt: skip
    found = check_rows(rows)
    assert found.val_in_test == [["val/a", "query/a"], ["val/b", "gallery/b"]]
    assert "warning: 2 val images are also test images, byte for byte:" in found.lines
    assert "  val/b = gallery/b" in found.lines


def test_no_advice_that_was_followed_already() -> None:
    """Without cameras the rule is `none`; when nothing matches under it, it is no cure."""
    found = check_rows([row("a", "query", 1, None), row("a", "gallery", 2, None)])
    assert found.exclude == "none"
    assert found.lines == [
        "error: 1 of 1 queries have no gallery image of their identity, so nothing can be "
        "evaluated; correct pid: query and gallery must name people alike: query/a",
        "no camera ids",
    ]


def test_a_copy_from_another_camera_raises_the_scores() -> None:
    rows = [row("a", "query", 7, 0, "same"), row("a", "gallery", 7, 1, "same")]
    assert any("find themselves" in line for line in check_rows(rows).lines)


def test_long_lists_end_with_a_number() -> None:
    rows = [
        row(f"{n:02}", split, 1, 0, f"d{n}") for n in range(30) for split in ("query", "gallery")
    ]
    lines = check_rows([*rows, row("z", "gallery", 1, 1)]).lines
    assert "  and 10 more" in lines
    assert sum(line.startswith("  query/") for line in lines) == 20


def test_a_thousand_equal_images_are_one_short_line() -> None:
    rows = [row(f"{n}", split, 1, 0, "black") for n in range(1000) for split in ("train", "query")]
    found = check_rows(rows)
    assert len(found.train_in_test) == 1000
    expected = "  " + " = ".join(f"train/{n}" for n in range(5)) + " and 995 more"
    assert expected in found.lines


def test_published_counts_and_protocols_of_a_manifest() -> None:
    manifest = load_manifest("col780")
    rows = [row("a", "train", 1, 0), row("a", "query", 4, 0), row("a", "gallery", 4, 1)]
    found = check_rows(rows, manifest)
    assert any(line.startswith("error: train has 1 ids, expected 62") for line in found.lines)
    assert found.problems == found.lines[: len(found.problems)]


def test_sets_without_identities_have_no_queries_to_match() -> None:
    rows = [row("a", "train", None, None, "x"), row("b", "val", None, None)]
    found = check_rows(rows, load_manifest("lip"))
    assert (found.queries, found.without_camera) == (0, 0)
    assert not any("camera" in line for line in found.lines)


cells = st.tuples(st.integers(1, 3), st.none() | st.integers(0, 2))


@settings(deadline=None)
@given(st.lists(cells, max_size=6), st.lists(cells, min_size=1, max_size=8))
def test_matches_agree_with_the_definition(
    query: list[tuple[int, int | None]], gallery: list[tuple[int, int | None]]
) -> None:
    rows = [row(f"{n}", "query", pid, camid) for n, (pid, camid) in enumerate(query)]
    rows += [row(f"{n}", "gallery", pid, camid) for n, (pid, camid) in enumerate(gallery)]
    cameras = any(camid is not None for _, camid in query + gallery)
    expected = [
        f"query/{n}"
        for n, (pid, camid) in enumerate(query)
        if not any(
            pid == other and (not cameras or camid is None or camid != camera)
            for other, camera in gallery
        )
    ]
    assert check_rows(rows).unmatched_queries == expected
