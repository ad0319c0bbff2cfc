"""The names of official files, and trees that hold nothing but these names."""

from __future__ import annotations

import hashlib
import lzma
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def sources() -> dict[str, Any]:
    """``lists``: dataset -> from, names, sha256; ``no_list``: dataset -> why there is none."""
    return yaml.safe_load((HERE / "sources.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=2)
def official_names(dataset: str) -> dict[str, tuple[str, ...]]:
    """Section of the list, mostly a split -> names; checked against digest and counts."""
    told = sources()["lists"][dataset]
    text = lzma.decompress((HERE / f"{dataset}.txt.xz").read_bytes())
    assert hashlib.sha256(text).hexdigest() == told["sha256"]
    sections: dict[str, tuple[str, ...]] = {}
    for section in text.decode().split("# ")[1:]:
        title, *names = section.splitlines()
        sections[title] = tuple(names)
    assert {title: len(names) for title, names in sections.items()} == told["names"]
    return sections
