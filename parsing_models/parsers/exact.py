"""The parser ``exact``: label maps that a dataset came with, in place of any found in images."""

from __future__ import annotations

import importlib.metadata
import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from parsing_models.bodies import MEANING, as_bits, findings
from parsing_models.outcomes import FAILED, Outcomes, outcome
from parsing_models.scoring import check_sizes, read_annotation
from parsing_models.work import GRID
from pipeline.artifacts.running import Counter
from pipeline.datasets.index import read_index
from pipeline.labels.garments import TRUTHS
from pipeline.labels.sets import IGNORE, nearest_resized
from pipeline.labels.shards import NOTES
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError, nearest

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job


def load_exact(kind: str, *_: Any, **__: Any) -> NoReturn:
    """In place of a network, which it has none of. Raises ``ReidpipeError``."""
    raise ReidpipeError(
        f"found parser '{kind}', which reads a dataset's own label maps and looks at no image; "
        f"expected a parser of images; type reidpipe parse DATASET --model {kind}, or load "
        "schp-tiny"
    )


def label_set_of(dataset: str, known: str | None, asked: str | None) -> str:
    """The label set of a dataset's own maps. known: what its manifest says; asked: what was typed.

    Raises ``ReidpipeError`` where nobody says, where the two differ, and for an unknown name.
    """
    name = asked or known
    if name is None:
        raise ReidpipeError(
            f"found no label set of the maps of {dataset}; expected the one that they are in, one "
            f"of {', '.join(TRUTHS)}; type --option label_set=lip (train, run: --parsing-option "
            "exact label_set=lip)"
        )
    if name not in TRUTHS:
        raise ReidpipeError(
            f"found label set '{name}'{nearest(name, TRUTHS)}; expected one of "
            f"{', '.join(TRUTHS)}; type label_set=lip"
        )
    if known is not None and name != known:
        raise ReidpipeError(
            f"found label_set={name} for parser 'exact' on {dataset}, whose maps are in {known}; "
            "expected that; leave it out"
        )
    return name


def read(job: Job) -> dict[str, Any]:
    """Worker of the step "exact": the maps that the rows of an index name in ``label_path``, at
    256 x 128 by nearest neighbour.

    params: ``truth``, the name of their label set. Confidence is 1; of pixels that were not
    annotated (255), which become background, 0. Images without a map are told as ``failed``.
    Returns the summary of the step "maps". Raises ``ReidpipeError`` where no row names a map, and
    as ``read_annotation`` and ``check_sizes``.
    """
    index = read_index(job.inputs["index"])
    truth, started = TRUTHS[job.params["truth"]], time.monotonic()
    rows = [row for row in index.rows if row.extra.get("label_path")]
    if not rows:
        raise ReidpipeError(
            f"found no label maps in dataset '{index.dataset}'; expected rows with a label_path; "
            "type --model schp-tiny (train, run: --parsing schp-tiny)"
        )
    check_sizes(index, rows)
    attributes = {
        "model": "exact",
        "classes": len(truth),
        "confidence": "1; 0 where nothing is annotated",
        "reidpipe": importlib.metadata.version("reidpipe"),
        "grid": list(GRID),
        NOTES: MEANING,
    }
    outcomes, count = Outcomes(), Counter(job.running, len(index.rows))
    with MapWriter(job.folder, truth, attributes, GRID) as writer:
        for row in index.rows:
            if row.extra.get("label_path"):
                label = nearest_resized(read_annotation(index.root, row, truth), GRID)
                annotated = label != IGNORE
                label = np.where(annotated, label, 0).astype(np.uint8)
                found = findings(label)
                writer.add(
                    row.key,
                    label,
                    annotated.astype(np.float32),
                    source_size=(row.height, row.width),
                    source_digest=row.digest or "00",
                    note=as_bits(found),
                )
                outcomes.add(row.key, outcome(found))
            else:
                outcomes.add(row.key, f"{FAILED}no label_path")
            count.add(1)
    seconds = time.monotonic() - started
    return {
        "images": outcomes.stored,
        "made": outcomes.stored,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(rows) / seconds, 2),
        **{finding: sorted(keys) for finding, keys in outcomes.named.items()},
        "failed": sorted(outcomes.failed),
    }
