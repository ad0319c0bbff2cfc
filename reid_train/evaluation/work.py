"""Worker of step "evaluation": a model and a dataset to metrics, ranking and threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.store import versions
from pipeline.datasets.exclusion import CLOTHES, RULES
from pipeline.datasets.index import ImageRow, Index, read_index
from pipeline.datasets.protocols import exclusion
from pipeline.images.packed import PackedImages
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.compared import compared
from reid_train.evaluation.embeddings import Embeddings, embed, save_features
from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.metrics import RetrievalMetrics
from reid_train.evaluation.protocols import (
    find_protocol,
    mean_of_trials,
    score_protocol,
    test_rows,
    told,
)
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.rerank import rerank_distances
from reid_train.evaluation.statistics.chance import chance_map
from reid_train.evaluation.statistics.stored import MEASURES
from reid_train.evaluation.statistics.summary import (
    Scored,
    named_intervals,
    people_sums,
    summarise,
)
from reid_train.evaluation.tracks import Tracks
from reid_train.evaluation.watchers import Watchers, distances_between
from reid_train.models import COSINE

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job
    from pipeline.datasets.manifest import Protocol
    from reid_train.evaluation.side_information import SideInformation

METRICS, PROTOCOL, THRESHOLD, RANKING = (
    "metrics.json", "protocol.json", "threshold.json", "ranking.npz",
)  # fmt: skip
RANKS = (1, 5, 10)
BATCH = 64


def evaluate(job: Job) -> dict[str, Any]:
    """Embed the test images, rank, score; returns the content of ``metrics.json``.

    inputs: model, index, images (packed at the model's input size). params: protocol and
    exclude by name, flip (sum of the features of image and
    mirror image), rerank (None or {k1, k2, lam}), distance where it is not the model's, feature
    where it is not the embedding (see ``compared``). A model's
    table of cameras or views is used on the set it was trained on alone (``side_information``);
    the threshold is for images of no set, and so is always made without. Writes, besides
    ``metrics.json``:
    ``protocol.json`` (all that the numbers depend on), ``ranking.npz`` (see ``RankingRecorder``),
    ``threshold.json`` (see ``PairStatistics``), ``statistics.json`` (see ``StoredStatistics``),
    ``features.npy`` and ``features.json``.
    Features are computed in float32. Over several trials metrics are averaged; ranking and
    threshold are those of the first. Raises ReidpipeError for anything the user can cure.
    """
    index = read_index(job.inputs["index"])
    protocol = find_protocol(index.dataset, job.params["protocol"], index.definition)
    exclude = exclusion(
        [row for row in index.rows if row.split in ("query", "gallery")],
        protocol,
        job.params["exclude"],
    )
    trials = [test_rows(index, protocol, trial=t) for t in range(protocol.trials)]
    meta = read_json(job.inputs["model"] / "model.json")
    tested = _test(job, index, trials)
    # As taken: a protocol may have replaced cameras by groups, which only its rule must see.
    taken_by = {row.key: -1 if row.camid is None else row.camid for row in index.rows}

    found, outcomes, scored = None, [], []
    for number, rows in enumerate(trials):
        query, gallery = (_embeddings(side, tested.features, exclude) for side in rows)
        tracks = Tracks.of(rows[1]) if protocol.unit == "track" else None
        ranked = gallery if tracks is None else tracks.gallery()
        matches = match_rule(query, ranked, exclude)
        watchers = None
        if number == 0:
            bare = None
            if tested.bare is not None:
                sides = (_embeddings(side, tested.bare, exclude) for side in rows)
                bare = (next(sides), next(sides))
            about = {
                "dataset": index.dataset, "protocol": protocol.name, "exclude": exclude,
                "flip": bool(job.params["flip"]),
            }  # fmt: skip
            cameras = [np.array([taken_by[row.key] for row in side], np.int64) for side in rows]
            watchers = Watchers.of(
                query, gallery, exclude, tested.distance, matches=matches, tracks=tracks,
                bare=bare, about=about, cameras=cameras if protocol.trials == 1 else None,
            )  # fmt: skip
        try:
            outcomes.append(
                _score_trial(
                    job, protocol, query, gallery, matches, tested.distance, watchers, tracks
                )
            )
        except ValueError as error:
            raise ReidpipeError(
                f"{index.dataset}: {error}; expected images of the same people in query and "
                "gallery from different cameras; type --exclude none or another --protocol"
            ) from error
        chance = chance_map(matches, outcomes[-1][0].valid, len(ranked), protocol)
        scored.append([Scored(m, query.pids, chance) for m in outcomes[-1] if m is not None])
        if watchers is not None:
            found = watchers.found()
            query_keys, gallery_keys = ([row.key for row in side] for side in rows)
            watchers.ranking.write(
                job.folder / RANKING, query_keys, gallery_keys, metrics=outcomes[0][0]
            )
            about_table = {} if tested.sides.told is None else {"side_information": "left out"}
            atomic.write_json(job.folder / THRESHOLD, watchers.pairs.summary() | about_table)
    assert found is not None
    statistics = summarise([trial[0] for trial in scored], found)
    plain = mean_of_trials([metrics for metrics, _ in outcomes])
    reranked = [metrics for _, metrics in outcomes if metrics is not None]
    table = {} if tested.sides.told is None else {"side_information": tested.sides.told}
    feature = {"feature": job.params["feature"]} if job.params.get("feature") else {}
    rows = trials[0][1]
    result = {
        "dataset": index.dataset,
        "protocol": protocol.name,
        "exclude": exclude,
        "queries": len(trials[0][0]),
        "valid_queries": int(plain.valid.sum()),
        "gallery": len(rows if protocol.unit == "image" else Tracks.of(rows)),
        **told(protocol, rows),
        **_figures(plain),
        "intervals": statistics.intervals,
        "chance": statistics.chance,
        "rerank": {
            **job.params["rerank"],
            **_figures(mean_of_trials(reranked)),
            "intervals": named_intervals(
                people_sums([trial[1] for trial in scored]), MEASURES, name="identities"
            ),
        }
        if reranked
        else None,
        "distance": tested.distance,
        **feature,
        **table,
        "recipe": _recipe_name(meta),
        "seed": meta.get("seed"),
        "versions": versions(),
    }
    about = {
        "definition": protocol.model_dump(exclude={"counts"}),
        "exclude": exclude,
        "flip": bool(job.params["flip"]),
        "rerank": job.params["rerank"],
        "distance": tested.distance,
        **feature,
        **table,
        "image_size": list(tested.size),
        "precision": "fp32",
        "trials": protocol.trials,
        "inputs": {name: folder.name for name, folder in sorted(job.inputs.items())},
    }
    statistics.write(job.folder)
    atomic.write_json(job.folder / PROTOCOL, about)
    atomic.write_json(job.folder / METRICS, result)
    return result


def _score_trial(
    job: Job,
    protocol: Protocol,
    query: Embeddings,
    gallery: Embeddings,
    matches: Matches,
    distance: str,
    watchers: Watchers | None,
    tracks: Tracks | None = None,
) -> tuple[RetrievalMetrics, RetrievalMetrics | None]:
    chunks = _counted(distances_between(query, gallery, distance).chunks(), job, len(query))
    orders = None
    if watchers is not None:
        chunks, orders = watchers.watch(chunks), watchers.orders
    elif tracks is not None:
        chunks = tracks.watch(chunks)
    g_pids = gallery.pids if tracks is None else tracks.pids
    ids = {"q_pids": query.pids, "g_pids": g_pids, "matches": matches, "protocol": protocol}
    plain = score_protocol(chunks, **ids, orders=orders)
    if job.params["rerank"] is None:
        return plain, None
    normalise = distance == COSINE
    reranked = rerank_distances(query, gallery, normalise=normalise, **job.params["rerank"])
    again = [(0, reranked)]
    return plain, score_protocol(tracks.watch(again) if tracks else again, **ids)


def _counted(
    chunks: Iterable[tuple[int, np.ndarray]], job: Job, queries: int
) -> Iterator[tuple[int, np.ndarray]]:
    for start, block in chunks:
        yield start, block
        job.running.report(start + len(block), queries, "queries")


@dataclass(frozen=True)
class _Tested:
    """features: by key, of every image that a trial needs. bare: the same without the model's
    table where they have rows of it. size: of the images (H, W).
    """

    features: dict[str, np.ndarray]
    bare: dict[str, np.ndarray] | None
    size: tuple[int, int]
    distance: str
    sides: SideInformation


def _test(job: Job, index: Index, trials: list[tuple[list[ImageRow], list[ImageRow]]]) -> _Tested:
    from reid_train import load_model
    from reid_train.engine.runtime import Runtime
    from reid_train.evaluation.side_information import side_information

    needed = {row.key for trial in trials for side in trial for row in side}
    # The index's own rows: a protocol may have replaced cameras by groups, which only the
    # exclusion rule must see.
    rows = [row for row in index.rows if row.key in needed]
    packed = PackedImages.open(job.inputs["images"])
    runtime = Runtime.create(job.device, "fp32", job.threads)
    model = load_model(job.inputs["model"], device=str(runtime.device))
    if tuple(packed.size) != tuple(model.input_size):
        raise ReidpipeError(
            f"found images packed at {packed.size} for a model that takes {model.input_size}; "
            "expected the same height and width; type reidpipe eval RUN, which packs them so"
        )
    sides = side_information(model, job.inputs["model"], job.inputs["index"], index, rows)
    keys = [row.key for row in rows]
    encode, joined = compared(model, job.params.get("feature"))

    def features(**known: np.ndarray) -> np.ndarray:
        return embed(
            encode,
            packed.pixels,
            [packed.row(key) for key in keys],
            runtime=runtime,
            batch=BATCH,
            flip=job.params["flip"],
            joined=joined,
            running=job.running,
            **known,
        )

    found = features(**sides.of(rows))
    save_features(job.folder, found, keys)
    by_key = dict(zip(keys, found, strict=True))
    bare = dict(zip(keys, features(), strict=True)) if sides.used else None
    distance = job.params.get("distance") or model.distance
    return _Tested(by_key, bare, packed.size, distance, sides)


def _embeddings(rows: list[ImageRow], features: dict[str, np.ndarray], exclude: str) -> Embeddings:
    return Embeddings(
        np.stack([features[row.key] for row in rows]),
        np.array([row.pid for row in rows], np.int64),
        [row.camid for row in rows] if RULES[exclude].camera else None,
        # Identical bytes are the identical image, wherever the file lies.
        [row.digest or row.key for row in rows] if RULES[exclude].image else None,
        [row.extra.get(CLOTHES) for row in rows] if RULES[exclude].clothes else None,
    )


def _figures(metrics: RetrievalMetrics) -> dict[str, Any]:
    return {
        "mAP": float(metrics.mAP),
        "mINP": float(metrics.mINP),
        "cmc": {str(rank): float(metrics.cmc[rank - 1]) for rank in RANKS},
    }


def _recipe_name(meta: dict[str, Any]) -> str | None:
    recipe = meta.get("recipe")
    return recipe.get("name") if isinstance(recipe, dict) else recipe
