"""``gallery.json``: what a gallery says of its features."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from pipeline.artifacts.atomic import parse_json
from pipeline.terminal.errors import DamagedFile
from reid_train.evaluation.calibration import Calibration, Part, Threshold
from reid_train.models import COSINE

__all__ = ["About", "Threshold", "read_about"]

Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Of the columns, which may have a million entries; what is short stands before them.
RATES = ("similarity", "wanted_fpr", "fpr", "tpr")  # the rest follows from the calibration
COLUMNS = ("pids", "camids", "folder", "sha256", "names")


class About(Part):
    """What ``gallery.json`` says of the n rows of ``features.npy``.

    names: of the images, each once: their paths below the folder that was embedded, with "/".
    pids, camids: identities and cameras where known (single ones may be None). identities: pid ->
    what the person is called where that is not the number itself; cameras: the same of camids.
    model_key: of the model artifact they were made by. flip: whether the mirrored images' features
    were added. distance: what ranks them; normalise: whether that is of L2-normalised rows (of the
    cosine it is), which are stored as the model gave them. threshold: of an error rate of 1 %;
    calibration: gives that of any rate.
    versions: of Python and the packages that can change a number, when the gallery was written.
    features_sha256: of ``features.npy``. folders, folder: the folders that were embedded, and for
    each row the number of its own; sha256: of each row's file. Single ones, or all, are None
    where unknown.
    """

    model_key: str
    flip: bool
    distance: Literal["cosine", "euclidean"] = "cosine"
    normalise: bool
    threshold: Threshold | None = None
    calibration: Calibration | None = None
    versions: dict[str, str] = {}
    identities: dict[str, str] = {}
    cameras: dict[str, str] = {}
    features_sha256: Digest | None = None
    folders: list[str] = []
    pids: list[Number | None] | None = None
    camids: list[Number | None] | None = None
    folder: list[Annotated[int, Field(ge=0)] | None] | None = None
    sha256: list[Digest | None] | None = None
    names: list[str]

    @field_validator("normalise")
    @classmethod
    def _of_the_distance(cls, value: bool, info: ValidationInfo) -> bool:
        if "distance" in info.data and value != (info.data["distance"] == COSINE):
            raise ValueError(f"{value} for the distance {info.data['distance']}")
        return value

    @model_validator(mode="after")
    def _columns_belong_together(self) -> About:
        for column in COLUMNS:
            values = getattr(self, column)
            if values is not None and len(values) != len(self.names):
                raise ValueError(f"{len(values)} {column} for {len(self.names)} names")
        if len(set(self.names)) != len(self.names):
            raise ValueError("a name stands twice")
        highest = max((n for n in self.folder or () if n is not None), default=-1)
        if highest >= len(self.folders):
            raise ValueError(f"folder {highest} of {len(self.folders)} folders")
        return self

    def path(self, row: int) -> Path:
        """Where a row's image was when it was embedded; its name alone where that is unknown."""
        number = None if self.folder is None else self.folder[row]
        name = self.names[row]
        return Path(name) if number is None else Path(self.folders[number], name)

    def called(self, pid: int | None) -> str | None:
        """The name of an identity."""
        return None if pid is None else self.identities.get(str(pid), str(pid))

    def camera(self, camid: int | None) -> str | None:
        """The name of a camera."""
        return None if camid is None else self.cameras.get(str(camid), str(camid))

    def people_on(self, names: Container[str]) -> tuple[int, int]:
        """How many people are known on these images, and on how many of them."""
        pids = [
            pid
            for pid, name in zip(self.pids or [], self.names, strict=False)
            if pid is not None and name in names
        ]
        return len(set(pids)), len(pids)

    def text(self) -> str:
        """The content of the file: a line per field, columns last."""
        content = self.model_dump()
        if self.calibration is not None and content["threshold"] is not None:
            content["threshold"] = {name: content["threshold"][name] for name in RATES}
        ordered = [name for name in content if name not in COLUMNS] + list(COLUMNS)
        # one call for a column: a million entries in seconds
        lines = [f"{json.dumps(name)}: {json.dumps(content[name])}" for name in ordered]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read_about(path: Path, cure: str) -> About:
    """The content of a ``gallery.json``. Raises DamagedFile, which ends with ``cure``, for any
    other.
    """
    try:
        about = About.model_validate(_columns(parse_json(path.read_bytes())))
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
    stored = about.threshold
    if about.calibration is None or stored is None or stored.wanted_fpr is None:
        return about
    whole = about.calibration.threshold(stored.wanted_fpr)
    return about.model_copy(update={"threshold": whole})


def _columns(content: Any) -> Any:
    """The content with the columns of today, of a file that has an entry per image instead."""
    files = content.pop("files", None) if isinstance(content, dict) else None
    names = content.get("names") if files else None
    if isinstance(files, dict) and isinstance(names, list):
        found = [files.get(name) if isinstance(name, str) else None for name in names]
        whole = [entry if isinstance(entry, dict) else {} for entry in found]
        folders = list(
            dict.fromkeys(e["folder"] for e in whole if isinstance(e.get("folder"), str))
        )
        content["folders"] = folders
        content["folder"] = [
            folders.index(e["folder"]) if e.get("folder") in folders else None for e in whole
        ]
        content["sha256"] = [entry.get("sha256") for entry in whole]
    return content
