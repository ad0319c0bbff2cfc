"""CMC, mAP, mINP: by hand, against recorded evaluators, against the plain definition."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation import Embeddings, evaluate, evaluate_distances, rank
from reid_train.evaluation.distances import Distances
from tests.reid_train.evaluation.reference import plain_metrics

CASES = ("normal", "invalid_query", "junk_kept", "single_gallery", "ties")
PEERS = ("torchreid_py", "torchreid_cy", "fastreid_py", "fastreid_cy", "clipreid")


def test_by_hand():
    # Query 0 (person 1, camera 0) sees: g1 wrong .1, g2 right .2, g3 wrong .3, g4 right .4;
    # g0 is its own camera. AP = (1/2 + 2/4) / 2, INP = 2/4. Query 1 has nobody.
    dist = [[0.0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1]]
    found = evaluate_distances(
        np.array(dist), [1, 9], [1, 2, 1, 3, 1], [0, 0], [0, 0, 1, 1, 2], max_rank=7
    )
    assert found.mAP == 0.5 and found.mINP == 0.5
    assert found.cmc.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert found.valid.tolist() == [True, False]
    assert found.ap[0] == 0.5 and np.isnan(found.ap[1])
    assert found.cmc.dtype == found.ap.dtype == np.float64 and found.valid.dtype == bool


def test_equal_distances_rank_by_gallery_index():
    found = evaluate_distances(np.zeros((1, 4)), [1], [2, 3, 1, 1], None, None, exclude="none")
    assert found.ap[0] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert found.cmc[:4].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("case", CASES)
def test_recorded_evaluators(case, golden):
    z = golden(f"eval_{case}.npz")
    found = evaluate_distances(z["dist"], z["q_pids"], z["g_pids"], z["q_camids"], z["g_camids"])
    np.testing.assert_array_equal(found.cmc, z["stable_cmc"])
    np.testing.assert_allclose(found.ap, z["stable_AP"], rtol=0, atol=3e-16)
    assert found.mAP == pytest.approx(z["stable_mAP"], abs=1e-15)
    assert found.mINP == pytest.approx(z["stable_mINP"], abs=1e-15)
    np.testing.assert_array_equal(found.valid, ~np.isnan(z["stable_AP"]))
    if case == "ties":  # the peers' sort is unstable there
        return
    for peer in PEERS:
        if f"{peer}_mAP" in z:
            assert found.mAP == pytest.approx(z[f"{peer}_mAP"], abs=1e-7), peer
            cmc = z[f"{peer}_cmc"]
            np.testing.assert_allclose(found.cmc[: len(cmc)], cmc, atol=1e-7, err_msg=peer)
    if "fastreid_py_mINP" in z:
        assert found.mINP == pytest.approx(z["fastreid_py_mINP"], abs=1e-7)


@pytest.mark.parametrize("case", ("normal", "invalid_query", "junk_kept"))
@pytest.mark.parametrize("kind", (np.asarray, torch.as_tensor))
def test_recorded_evaluators_from_features(case, kind, golden):
    z = golden(f"eval_{case}.npz")
    sides = [
        Embeddings(kind(z[f"{s}_feat"]), kind(z[f"{s}_pids"]), kind(z[f"{s}_camids"])) for s in "qg"
    ]
    for memory_mib in (1024, 0.01):
        found = evaluate(*sides, normalise=False, memory_mib=memory_mib)
        assert found.mAP == pytest.approx(z["stable_mAP"], abs=1e-6)
        np.testing.assert_allclose(found.cmc, z["stable_cmc"], atol=1e-6)


def test_recorded_clip_reid(golden):
    z = golden("clip_losses.npz")
    sides = [Embeddings(z[f"eval_{s}f"], z[f"eval_{s}_pids"], z[f"eval_{s}_cams"]) for s in "qg"]
    found = evaluate(*sides, normalise=False)
    assert found.mAP == pytest.approx(z["eval_mAP"], abs=1e-7)
    assert found.valid.sum() == len(found.valid) - 1 and not found.valid[-1]
    np.testing.assert_allclose(found.cmc, z["eval_cmc"], atol=1e-7)
    distances = Distances(sides[0].features, sides[1].features, normalise=False, memory_mib=1)
    ((_, chunk),) = distances.chunks()
    np.testing.assert_allclose(chunk, z["eval_dist"], rtol=1e-6, atol=1e-4)


def test_recorded_simple_reid(golden):
    z = golden("simplereid_eval.npz")
    found = evaluate_distances(
        z["dist"], z["q_pids"], z["g_pids"], z["q_cams"], z["g_cams"], max_rank=len(z["cmc"])
    )
    assert found.mAP == pytest.approx(z["mAP"], abs=1e-7)
    np.testing.assert_allclose(found.cmc, z["cmc"], atol=1e-7)


@st.composite
def problems(draw):
    queries, gallery = draw(st.integers(1, 6)), draw(st.integers(1, 25))
    seed, levels = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 3, 40]))
    rng = np.random.default_rng(seed)
    people, cameras, images = (int(rng.integers(1, high)) for high in (8, 5, 12))
    return {
        "dist": rng.integers(0, levels, (queries, gallery)).astype(np.float32) / 8,
        "q_pids": rng.integers(0, people, queries),
        "g_pids": rng.integers(-1, people, gallery),
        "q_camids": rng.integers(0, cameras, queries),
        "g_camids": rng.integers(0, cameras, gallery),
        "q_keys": rng.integers(0, images, queries).astype(str),
        "g_keys": rng.integers(0, images, gallery).astype(str),
    }


def rule(problem, exclude):
    def leave_out(q, g):
        if exclude == "same-camera":
            same = problem["q_pids"][q] == problem["g_pids"][g]
            return same and problem["q_camids"][q] == problem["g_camids"][g]
        return exclude == "same-image" and problem["q_keys"][q] == problem["g_keys"][g]

    return leave_out


@given(problem=problems(), exclude=st.sampled_from(["same-camera", "same-image", "none"]))
@settings(deadline=None, max_examples=200)
def test_equals_the_plain_definition(problem, exclude):
    before = problem["dist"].copy()
    plain = plain_metrics(
        problem["dist"], problem["q_pids"], problem["g_pids"], rule(problem, exclude), 20
    )
    if np.isnan(plain.ap).all():
        with pytest.raises(ValueError, match="no valid query"):
            evaluate_distances(**problem, exclude=exclude, max_rank=20)
        return
    found = evaluate_distances(**problem, exclude=exclude, max_rank=20)
    np.testing.assert_allclose(found.ap, plain.ap, rtol=1e-14)
    np.testing.assert_allclose(found.cmc, plain.cmc, rtol=1e-14)
    assert found.mAP == pytest.approx(np.nanmean(plain.ap), rel=1e-14)
    assert found.mINP == pytest.approx(np.nanmean(plain.inp), rel=1e-14)
    np.testing.assert_array_equal(problem["dist"], before)


def random_sides(seed: int, queries: int, gallery: int, dims: int = 8):
    rng = np.random.default_rng(seed)

    def side(count):
        # Small whole numbers: every product kernel gives the same bits, ties are frequent.
        features = rng.integers(-3, 4, (count, dims)).astype(np.float32)
        pids, camids = rng.integers(0, 5, count), rng.integers(0, 3, count)
        return Embeddings(features, np.append(pids[1:], 0), np.append(camids[1:], len(pids) % 2))

    return side(queries), side(gallery)


@given(seed=st.integers(0, 10**6), memory_mib=st.sampled_from([1e-6, 1e-3, 1e-2, 1]))
@settings(deadline=None, max_examples=50)
def test_memory_budget_changes_nothing(seed, memory_mib):
    query, gallery = random_sides(seed, 40, 300)
    base = evaluate(query, gallery, normalise=False)
    other = evaluate(query, gallery, normalise=False, memory_mib=memory_mib)
    np.testing.assert_array_equal(base.ap, other.ap)
    np.testing.assert_array_equal(base.cmc, other.cmc)


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_order_of_the_gallery_does_not_matter_without_ties(seed):
    rng = np.random.default_rng(seed)
    dist = rng.permutation(6 * 40).reshape(6, 40)
    ids = [rng.integers(0, 4, n) for n in (6, 40, 6, 40)]
    ids[0][0], ids[1][0], ids[2][0], ids[3][0] = 0, 0, 0, 1
    base = evaluate_distances(dist, *ids)
    shuffle = rng.permutation(40)
    other = evaluate_distances(dist[:, shuffle], ids[0], ids[1][shuffle], ids[2], ids[3][shuffle])
    np.testing.assert_array_equal(base.ap, other.ap)
    np.testing.assert_array_equal(base.cmc, other.cmc)


@given(seed=st.integers(0, 10**6), copies=st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_repeating_every_query_changes_no_mean(seed, copies):
    query, gallery = random_sides(seed, 10, 60)
    base = evaluate(query, gallery, exclude="none")
    again = Embeddings(np.tile(query.features, (copies, 1)), np.tile(query.pids, copies))
    other = evaluate(again, gallery, exclude="none")
    assert other.mAP == pytest.approx(base.mAP, abs=1e-12)
    assert other.mINP == pytest.approx(base.mINP, abs=1e-12)
    np.testing.assert_allclose(other.cmc, base.cmc, atol=1e-12)


def test_scale_of_features_does_not_matter_when_normalised():
    rng = np.random.default_rng(0)
    query, gallery = (rng.normal(size=(n, 16)).astype(np.float32) for n in (9, 50))
    ids = rng.integers(0, 4, 9), rng.integers(0, 4, 50)
    factors = 2.0 ** rng.integers(-3, 4, 50)[:, None]
    base = evaluate(Embeddings(query, ids[0]), Embeddings(gallery, ids[1]), exclude="none")
    scaled = Embeddings((gallery * factors).astype(np.float32), ids[1])
    assert evaluate(Embeddings(query, ids[0]), scaled, exclude="none").mAP == base.mAP


def test_cmc_keeps_its_last_value_beyond_a_small_gallery():
    found = evaluate_distances(np.array([[0.2, 0.1]]), [1], [1, 2], [0], [1, 1], max_rank=50)
    assert found.cmc.shape == (50,) and found.cmc[0] == 0 and (found.cmc[1:] == 1).all()


@pytest.mark.parametrize("camids", (None, [0, None, 1], [0.0, np.nan, 1.0]))
def test_unknown_camera_names_the_cure(camids):
    query = Embeddings(np.eye(3), [1, 2, 3], camids)
    with pytest.raises(ReidpipeError, match="--exclude same-image or --exclude none") as caught:
        evaluate(query, Embeddings(np.eye(3), [1, 2, 3], [0, 1, 2]))
    assert "\n" not in str(caught.value)
    assert evaluate(query, query, exclude="none").mAP == 1


def test_user_mistakes():
    good = Embeddings(np.eye(3), [1, 2, 3], [0, 1, 2])
    with pytest.raises(ReidpipeError, match="did you mean 'same-camera'"):
        evaluate(good, good, exclude="same-camer")
    with pytest.raises(ReidpipeError, match="keys"):
        evaluate(good, good, exclude="same-image")
    with pytest.raises(ReidpipeError, match="NaN or infinite"):
        Embeddings(np.full((2, 2), np.nan), [1, 2])
    with pytest.raises(ReidpipeError, match=r"pids of shape \(2,\)"):
        Embeddings(np.eye(3), [1, 2])
    with pytest.raises(ReidpipeError, match="length 3 .* length 2"):
        evaluate(good, Embeddings(np.eye(2), [1, 2], [0, 1]))
    with pytest.raises(ReidpipeError, match="length 3 .* length 2"):
        rank(good, Embeddings(np.eye(2), [1, 2], [0, 1]), exclude="none")
    with pytest.raises(ReidpipeError, match="rule 'None'"):
        evaluate(good, good, exclude=None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ReidpipeError, match="NaN distances for query 0"):
        evaluate_distances(np.array([[np.nan, 0]]), [1], [1, 1], [0], [1, 1])
    with pytest.raises(ReidpipeError, match=r"\(1, 2\); expected \(1, 3\)"):
        evaluate_distances(np.zeros((1, 2)), [1], [1, 1, 1], [0], [1, 1, 1])
    with pytest.raises(ReidpipeError, match="found max_rank=-1; expected 1 at least"):
        evaluate(good, good, max_rank=-1)
    with pytest.raises(ReidpipeError, match="found distances of .*; expected numbers"):
        evaluate_distances(np.array([["a", "b"]]), [1], [1, 1], [0], [1, 1])
    with pytest.raises(ValueError, match="no valid query"):
        evaluate(good, Embeddings(np.zeros((0, 3)), [], []))


@pytest.mark.parametrize(
    ("pids", "camids", "told"),
    [
        (["1", "2"], [0, 0], "query pids that are text and gallery pids that are numbers"),
        ([1, 2], ["0", "0"], "query camids that are text and gallery camids that are numbers"),
        ([1, np.nan], [0, 0], "query pids of float64, or one that is missing"),
        ([1, None], [0, 0], "query pids of NoneType, int"),
        (np.array([1, 2**63], np.uint64), [0, 0], "query pids of uint64"),
    ],
)
def test_columns_that_would_match_nothing_are_told(pids: Any, camids: list, told: str):
    gallery = Embeddings(np.eye(2), [1, 2], [1, 1])
    with pytest.raises(ReidpipeError, match=f"found {told}.*; expected"):
        evaluate(Embeddings(np.eye(2), np.array(pids), camids), gallery)


def test_columns_of_one_kind_are_compared_whatever_holds_them():
    gallery = Embeddings(np.eye(3), [1, 2, 2**62], np.array([1, 1, 1], object))
    for dtype in (int, np.uint64, object):
        query = Embeddings(np.eye(3), np.array([1, 2, 2**62], dtype), [0, 0, 0])
        assert evaluate(query, gallery).valid.all()
    text = Embeddings(np.eye(3), np.array([b"a", b"b", b"c"]), [0, 0, 0])
    other = Embeddings(np.eye(3), np.array(["a", "b", "c"], object), [1, 1, 1])
    assert evaluate(text, other).mAP == 1


@pytest.mark.parametrize("dtype", [bool, object, np.float16, np.uint8, np.int64])
def test_distances_of_any_numbers(dtype: type):
    dist = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    found = evaluate_distances(dist, [1, 2], [2, 1, 2], [0, 0], [1, 1, 1])
    assert found.mAP == pytest.approx(11 / 12)


def test_memory_stays_within_the_budget_whatever_the_gallery():
    rng = np.random.default_rng(0)
    pids = rng.integers(0, 50, 60_000)
    query = Embeddings(rng.normal(size=(120, 16)).astype(np.float32), pids[:120])
    peaks = []
    for size in (15_000, 60_000):
        features = rng.normal(size=(size, 16)).astype(np.float32)
        gallery = Embeddings(features, pids[:size])
        tracemalloc.start()
        evaluate(query, gallery, exclude="none", memory_mib=8)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    # 120 x 60000 float32 distances alone would be 27 MiB.
    assert max(peaks) < 8 + 4, peaks
