"""``statistics.json``: what lies beside the figures of an evaluation to say how sure they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import checked
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.calibration import Count, Pair, Part, Share

STATISTICS = "statistics.json"
MEASURES = ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10")
Shares = list[Share]
Intervals = dict[str, Pair]


class Named(Part):
    """A part whose fields have other names in the file: "Rank-1" is no name in Python."""

    model_config = ConfigDict(populate_by_name=True)


class Resampling(Part):
    """What was drawn. unit: what is independent; people: how many took part; level: of every
    interval in the file.
    """

    unit: Literal["identities"] = "identities"
    draws: Count
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    people: Count


class Cmc(Part):
    """Per rank (1..50) the share of queries with a right match up to it, and its interval over
    identities; None where there is none.
    """

    rank: list[Count]
    value: Shares
    low: Shares | None = None
    high: Shares | None = None


class Roc(Part):
    """True positive rates at false positive rates (ascending), and their interval over
    identities; None where there is none.
    """

    fpr: Shares
    tpr: Shares
    low: Shares | None = None
    high: Shares | None = None


class Estimate(Part):
    """A share and its interval over identities, None where there is none."""

    value: Share
    interval: Pair | None = None


class CameraPair(Named):
    """The queries of camera ``query`` ranked among the gallery images of camera ``gallery`` alone:
    how many had a right match there, and their figures.
    """

    query: int
    gallery: int
    queries: Count
    mAP: Share
    rank1: Annotated[Share, Field(alias="Rank-1")]
    intervals: Intervals | None = None


class Confusion(Part):
    """How many queries of person ``pid`` had an image of person ``taken_for`` at rank 1."""

    pid: int
    taken_for: int
    queries: Count


class StoredStatistics(Named):
    """What the evaluation worker writes. Shares are in 0..1, intervals [low, high] at the level of
    ``resampling``. intervals: over identities, by measure (MEASURES); intervals_over_queries: as
    if queries were independent, which those of one person are not. tpr_at_fpr: by the wanted rate
    as text ("0.001"). confusions: most frequent first. chance: what a random ranking of the same
    gallery gives. What could not be computed is None, and ``why`` has the reason by its name.
    """

    resampling: Resampling | None = None
    intervals: Intervals | None = None
    intervals_over_queries: Intervals | None = None
    cmc: Cmc | None = None
    roc: Roc | None = None
    tpr_at_fpr: dict[str, Estimate] | None = None
    camera_pairs: list[CameraPair] | None = None
    confusions: list[Confusion] | None = None
    chance: dict[str, Share] | None = None
    why: dict[str, str] = {}

    @model_validator(mode="after")
    def _columns_belong_together(self) -> StoredStatistics:
        for curve in (self.cmc, self.roc):
            columns = [] if curve is None else [c for c in vars(curve).values() if c is not None]
            if len({len(column) for column in columns}) > 1:
                raise ValueError("columns of a curve of different lengths")
        return self

    @classmethod
    def read(cls, folder: Path) -> StoredStatistics:
        """``statistics.json`` of an evaluation's folder. Raises ReidpipeError where there is none,
        as an evaluation of an older version has none, DamagedFile where it is anything else.
        """
        path = folder / STATISTICS
        if not path.is_file():
            raise ReidpipeError(
                f"found no {STATISTICS} in {folder}; expected the folder of an evaluation of this "
                "version; type reidpipe eval"
            )
        checked(path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DamagedFile(
                f"found {path} damaged ({place}: {first['msg']}); expected the statistics of an "
                "evaluation; type reidpipe cache verify --repair"
            ) from error

    def write(self, folder: Path) -> None:
        """Write ``statistics.json`` into ``folder``."""
        atomic.write_json(folder / STATISTICS, self.plain())

    def plain(self) -> dict[str, Any]:
        """As JSON values, with the names of the file."""
        return self.model_dump(mode="json", by_alias=True)
