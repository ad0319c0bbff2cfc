"""``gallery.json``: what a gallery says of its features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.terminal.errors import DamagedFile
from reid_train.models import COSINE, Distance

Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Part(BaseModel):
    """Base of what ``gallery.json`` holds: no value is bent into another type. Unknown fields are
    passed over, so that a later version may add some."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Threshold(Part):
    """The similarity from which two images count as one person, and how often that errs.

    wanted_fpr: the share of pairs of different people it was chosen for. fpr, tpr: the shares of
    pairs of different people and of the same person at or above it when it was calibrated; None
    where that is not known.
    """

    similarity: float
    wanted_fpr: float | None = None
    fpr: float | None = None
    tpr: float | None = None

    def passed(self, similarity: float) -> bool:
        """Whether it says "the same person" of two images."""
        return bool(similarity >= self.similarity)


class Source(Part):
    """The file an image's features were made from: the folder its name is relative to, and its
    SHA-256."""

    folder: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class About(Part):
    """What ``gallery.json`` says of the n rows of ``features.npy``.

    names: of the images, each once: their paths below the folder that was embedded, with "/".
    pids, camids: identities and cameras where known (single cameras may be None). model_key: of the
    model artifact they were made by. flip: whether the mirrored images' features were added.
    distance: how rows, stored as the model gave them, are compared. normalise: whether that is
    L2-normalised, as for the cosine.
    versions: of Python and the packages that can change a number, when the gallery was written.
    files: by name, where an image is and what tells whether it has changed.
    """

    names: list[str]
    model_key: str
    flip: bool
    distance: Distance = COSINE
    normalise: bool
    pids: list[Number] | None = None
    camids: list[Number | None] | None = None
    threshold: Threshold | None = None
    versions: dict[str, str] = {}
    files: dict[str, Source] = {}

    @field_validator("normalise")
    @classmethod
    def _as_of_the_distance(cls, value: bool, info: ValidationInfo) -> bool:
        distance = info.data.get("distance")
        if value != (distance == COSINE):
            raise ValueError(f"{value} for {distance} distance")
        return value

    @model_validator(mode="after")
    def _columns_belong_together(self) -> About:
        for column in ("pids", "camids"):
            values = getattr(self, column)
            if values is not None and len(values) != len(self.names):
                raise ValueError(f"{len(values)} {column} for {len(self.names)} names")
        if len(set(self.names)) != len(self.names):
            raise ValueError("a name stands twice")
        return self

    def paths(self) -> list[Path]:
        """Where each row's image was when it was embedded; its name alone where that is unknown."""
        known = self.files
        return [Path(known[n].folder, n) if n in known else Path(n) for n in self.names]


def read_about(path: Path, cure: str) -> About:
    """The content of a ``gallery.json``. Raises DamagedFile, which ends with ``cure``, for any
    other.
    """
    try:
        return About.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
        else:
            reason = f"no JSON: {error}"
        raise DamagedFile(
            f"found {path} damaged ({' '.join(reason.split())[:200]}); expected what "
            f"reidpipe embed writes; {cure}"
        ) from error
