"""The words by which people and other tools call splits, cameras, columns, and nobody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

SPLITS = ("train", "val", "query", "gallery")
# A test split that does not say which of its images are queries.
TEST = "test"
SPLIT_WORDS = {
    "train": ("train", "training", "trainset", "bounding_box_train", "train_all"),
    "val": ("val", "valid", "validation", "valset"),
    "query": ("query", "queries", "probe", "probes", "query_set", "probe_set"),
    "gallery": ("gallery", "galleries", "gallery_set", "bounding_box_test"),
    TEST: ("test", "testing", "testset"),
}
COLUMNS = ("path", "split", "pid", "camid", "view", "sequence", "frame")
COLUMN_WORDS = {
    "path": (
        "image", "filename", "file", "file_name", "filepath", "file_path", "image_path", "img_path",
        "img", "image_name", "image_file",
    ),
    "pid": (
        "person_id", "label", "person", "identity_id", "id", "subject", "subject_id", "vehicle_id",
        "target",
    ),
    "camid": ("camera", "camera_id", "cam", "cam_id", "cameraid"),
    "split": ("subset", "set", "partition"),
    "sequence": ("seq", "tracklet", "track_id", "sequence_id"),
    "frame": ("frame_id", "frame_number"),
    "view": ("viewpoint", "orientation"),
}  # fmt: skip
NOBODY = frozenset(
    {"", "-1", "junk", "nan", "none", "null", "na", "n/a", "<na>", "unknown", "unlabelled"}
)

_CAMERA_WORD = re.compile(r"(?:cam|camera|kamera)[ ._-]?(?:\d{1,6}|[a-z])", re.IGNORECASE)
_CAMERA_LIKE = re.compile(rf"{_CAMERA_WORD.pattern}|c\d{{1,4}}|[a-z]", re.IGNORECASE)


def split_of(word: str) -> str | None:
    """The split that a folder or a field means (``test`` included), in any case; None: none."""
    lower = word.strip().lower()
    return next((split for split, words in SPLIT_WORDS.items() if lower in words), None)


def is_nobody(identity: str) -> bool:
    """Whether an identity as written names no person: empty, nan, junk, a negative number."""
    return identity.lower() in NOBODY or re.fullmatch(r"-\d+", identity) is not None


def are_cameras(names: Iterable[str], *, surely: bool = False) -> bool:
    """Whether all folder names are cameras': ``cam1, Camera-2, cam_a``, and, unless ``surely``,
    ``c1`` and single letters, which beside a level of people mean cameras too.
    """
    pattern = _CAMERA_WORD if surely else _CAMERA_LIKE
    return all(pattern.fullmatch(name) for name in names)


def spelled(text: str) -> str:
    """A name in one form: composed characters (NFC) and no blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def whole(text: str) -> int | None:
    """The number a text is, ``3.0`` as spreadsheets write it included; None for anything else.

    More than 18 digits would overflow the 64 bits that arrays of identities have.
    """
    match = re.fullmatch(r"([0-9]{1,18})(?:\.0+)?", text)
    return int(match[1]) if match else None
