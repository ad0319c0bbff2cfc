"""What is wrong with a dataset, told before a training run is spent on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.datasets.exclusion import CLOTHES, RULES
from pipeline.datasets.index import ImageRow
from pipeline.datasets.layouts.counts import summary, verify_counts
from pipeline.datasets.manifest import Manifest, Protocol
from pipeline.datasets.protocols import apply_protocol, exclusion
from pipeline.datasets.repeats import may_repeat
from pipeline.terminal.errors import ReidpipeError

ERROR, WARNING = "error:", "warning:"
_NAMED = 5
_LISTED = 20


@dataclass(frozen=True)
class Check:
    """Findings about one dataset, all plain JSON values.

    counts: ``subset, ids, images, cameras`` per split. problems: counts that differ from the
    published ones, as lines with ``error:`` or ``warning:``. exclude: the rule the matches were
    counted with. unmatched_queries: keys of queries without any valid match under it.
    repeated: split -> groups of keys with equal bytes. query_in_gallery: [query key, gallery key]
    with equal bytes. overlap_excluded: whether the rule leaves all these pairs out.
    train_in_test: [train key, other key] likewise; val_in_test: [val key, query or gallery key].
    two_identities: groups of keys with equal bytes and different identities. without_camera:
    number of rows with unknown camera. lines: all of it for a person to read.
    """

    counts: list[dict[str, Any]]
    problems: list[str]
    exclude: str
    queries: int
    unmatched_queries: list[str]
    repeated: dict[str, list[list[str]]]
    query_in_gallery: list[list[str]]
    train_in_test: list[list[str]]
    val_in_test: list[list[str]]
    overlap_excluded: bool
    two_identities: list[list[str]]
    images: int
    without_camera: int
    lines: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The findings as JSON values, for an artifact's summary."""
        return asdict(self)


def check_rows(
    rows: Sequence[ImageRow], manifest: Manifest | None = None, *, layout: str | None = None
) -> Check:
    """Check the rows of an index; ``manifest`` adds the published counts, of the ``layout`` that
    was read, and the protocol.

    Matches are counted under the default protocol: a gallery image of the query's identity that
    the exclusion rule leaves in (``same-camera``: from another camera). Without any camera id the
    rule is ``none``. Nothing is raised: a partial dataset is still a dataset, but ``lines``
    says what a person has to know.
    """
    test = [row for row in rows if row.split in ("query", "gallery")]
    # A table of one's own may be of classes: nobody is searched for there.
    of_classes = any(row.extra.get("class") or row.extra.get("classname") for row in rows)
    of_classes = of_classes and all(row.pid is None for row in rows)
    identified = (manifest is None or manifest.kind == "reid") and not of_classes
    cameras_known = any(row.camid is not None for row in test or rows)
    protocol = manifest.default_protocol if manifest is not None else Protocol(name="standard")
    exclude = exclusion(test or rows, protocol, protocol.exclude)
    if not cameras_known and RULES[exclude].camera:
        exclude = "none"
    query, gallery = _test_rows(rows, manifest)
    groups = _same_bytes(rows)
    found = Check(
        counts=summary(rows),
        problems=verify_counts(rows, manifest, layout=layout) if manifest is not None else [],
        exclude=exclude,
        queries=len(query) if identified else 0,
        unmatched_queries=unmatched(query, gallery, exclude) if identified else [],
        repeated=_repeated(groups),
        query_in_gallery=_pairs(groups, ("query",), ("gallery",)),
        train_in_test=_pairs(groups, ("train",), ("query", "gallery", "val")),
        val_in_test=_pairs(groups, ("val",), ("query", "gallery")),
        overlap_excluded=exclude == "same-image" or (RULES[exclude].camera and _harmless(groups)),
        two_identities=[
            [row.key for row in group] for group in groups if len({row.pid for row in group}) > 1
        ],
        images=len(rows),
        without_camera=sum(row.camid is None for row in rows) if identified else 0,
    )
    found.lines.extend(_lines(found, rows))
    return found


def _test_rows(
    rows: Sequence[ImageRow], manifest: Manifest | None
) -> tuple[list[ImageRow], list[ImageRow]]:
    if manifest is not None:
        try:
            return apply_protocol(rows, manifest.default_protocol)
        except ReidpipeError:
            # A protocol whose lists are absent is told by verify_counts; the splits remain.
            pass
    query = [row for row in rows if row.split == "query"]
    return query, [row for row in rows if row.split == "gallery"]


def unmatched(query: list[ImageRow], gallery: list[ImageRow], exclude: str) -> list[str]:
    """Keys of queries for which ``exclude`` leaves no gallery image of their identity."""
    import numpy as np

    rule = RULES[exclude]
    by_pid: dict[int | None, list[ImageRow]] = defaultdict(list)
    for row in gallery:
        by_pid[row.pid].append(row)
    # Per identity the pairs of camera and clothes are counted, so that a query costs one look-up.
    worn = {
        pid: Counter((row.camid, row.extra.get(CLOTHES)) for row in found)
        for pid, found in by_pid.items()
    }
    keys = []
    for row in query:
        candidates = by_pid.get(row.pid, []) if row.pid is not None else []
        left = len(candidates)
        if rule.image:
            left -= sum(other.digest == row.digest for other in candidates)
        elif rule.camera and row.camid is not None and candidates:
            pairs = list(worn[row.pid])
            hidden = rule.hides(
                row.camid,
                row.extra.get(CLOTHES),
                np.array([camid for camid, _ in pairs], object),
                np.array([clothes for _, clothes in pairs], object),
            )
            left -= sum(worn[row.pid][pair] for pair, out in zip(pairs, hidden, strict=True) if out)
        if left == 0:
            keys.append(row.key)
    return keys


def _same_bytes(rows: Sequence[ImageRow]) -> list[list[ImageRow]]:
    by_digest: dict[str, list[ImageRow]] = defaultdict(list)
    for place in may_repeat((row.digest for row in rows), len(rows)).tolist():
        by_digest[rows[place].digest].append(rows[place])
    return [group for group in by_digest.values() if len(group) > 1]


def _repeated(groups: list[list[ImageRow]]) -> dict[str, list[list[str]]]:
    repeated: dict[str, list[list[str]]] = defaultdict(list)
    for group in groups:
        splits: dict[str, list[str]] = defaultdict(list)
        for row in group:
            splits[row.split].append(row.key)
        for split, keys in splits.items():
            if len(keys) > 1:
                repeated[split].append(keys)
    return dict(repeated)


def _pairs(
    groups: list[list[ImageRow]], first: tuple[str, ...], second: tuple[str, ...]
) -> list[list[str]]:
    """Each row of ``first`` splits with one row of ``second`` splits that has the same bytes."""
    pairs = []
    for group in groups:
        other = next((row for row in group if row.split in second), None)
        if other is not None:
            pairs += [[row.key, other.key] for row in group if row.split in first]
    return pairs


def _harmless(groups: list[list[ImageRow]]) -> bool:
    """Whether every query's own image in the gallery has the query's identity and camera."""
    for group in groups:
        found = {row.split for row in group}
        if {"query", "gallery"} <= found:
            test = [row for row in group if row.split in ("query", "gallery")]
            labels = {(row.pid, row.camid) for row in test}
            if len(labels) > 1 or test[0].camid is None:
                return False
    return True


def _lines(found: Check, rows: Sequence[ImageRow]) -> list[str]:
    lines = list(found.problems)
    hopeless = len(found.unmatched_queries) == found.queries > 0
    if found.unmatched_queries:
        count, first = len(found.unmatched_queries), ", ".join(found.unmatched_queries[:_NAMED])
        rule = "no gallery image of their identity"
        if RULES[found.exclude].camera:
            rule += f" {RULES[found.exclude].counted}"
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        # The rule `none` leaves nothing out: only other identities can help then.
        cure = "correct pid and camid, or evaluate with --exclude same-image or none"
        if not RULES[found.exclude].camera:
            cure = {
                "same-image": "correct pid, or evaluate with --exclude none",
                "none": "correct pid: query and gallery must name people alike",
            }[found.exclude]
        level, verdict = (
            ("error", f"so nothing can be evaluated; {cure}")
            if hopeless
            else ("warning", "so they do not count in mAP and CMC")
        )
        lines.append(
            f"{level}: {count} of {found.queries} queries have {rule}, {verdict}: {first}{more}"
        )
    if found.images and found.without_camera == found.images:
        advice = "" if hopeless else "; evaluate with --exclude same-image or none"
        if found.exclude == "same-image":
            advice = "; eval leaves out a query's own image alone (--exclude same-image)"
        lines.append(f"no camera ids{advice}")
    elif found.without_camera:
        lines.append(f"warning: {found.without_camera} of {found.images} images have no camera id")
    if found.query_in_gallery:
        lines += _overlap_lines(found, sum(row.split == "query" for row in rows))
    for split, pairs in (("train", found.train_in_test), ("val", found.val_in_test)):
        if pairs:
            lines.append(
                f"warning: {len(pairs)} {split} images are also test images, byte for byte:"
            )
            lines += _listed(pairs)
    for split, groups in found.repeated.items():
        what = "image occurs" if len(groups) == 1 else "images occur"
        lines.append(f"{split}: {len(groups)} {what} more than once, byte for byte:")
        lines += _listed(groups)
    if found.two_identities:
        lines.append(
            f"warning: {len(found.two_identities)} images carry more than one identity, "
            "byte for byte the same:"
        )
        lines += _listed(found.two_identities)
    return lines


def _overlap_lines(found: Check, total: int) -> list[str]:
    effect = (
        f"the {found.exclude} rule leaves these pairs out"
        if found.overlap_excluded
        else "they find themselves and raise the scores"
    )
    count = len(found.query_in_gallery)
    return [
        f"{count} of {total} query images are also in the gallery, byte for byte; {effect}:",
        *_listed(found.query_in_gallery),
    ]


def _listed(groups: list[list[str]]) -> list[str]:
    lines = []
    for keys in groups[:_LISTED]:
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        lines.append(f"  {' = '.join(keys[:_NAMED])}{more}")
    if len(groups) > _LISTED:
        lines.append(f"  and {len(groups) - _LISTED} more")
    return lines


def as_warnings(summary: dict[str, Any]) -> dict[str, Any]:
    """An index's summary whose errors are let through (``--allow-mismatch``): as warnings that say
    so, with ``allowed_mismatch``. The artifact keeps them as they were found."""

    def let_through(lines: list[str]) -> list[str]:
        return [
            f"{WARNING}{line.removeprefix(ERROR)} (allowed)" if line.startswith(ERROR) else line
            for line in lines
        ]

    told = {name: let_through(summary[name]) for name in ("problems", "lines")}
    return {**summary, **told, "allowed_mismatch": True}


def error_lines(summary: dict[str, Any]) -> list[str]:
    """The errors among the lines of an index's summary."""
    return [line for line in summary["lines"] if line.startswith(ERROR)]


def refusal(errors: list[str], dataset: str) -> ReidpipeError:
    """The one line about a dataset with ``errors``."""
    more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
    return ReidpipeError(
        f"found errors in {dataset}: {errors[0].removeprefix(ERROR).strip()}{more}; expected none; "
        f"mend your copy, or type `reidpipe prepare {dataset} --allow-mismatch` to use it as it is"
    )
