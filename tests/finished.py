"""Which images have a label map, of a folder that may be unfinished."""

from __future__ import annotations

from pathlib import Path

from pipeline.labels.shards import keys_of, shards


def finished_keys(folder: Path | str) -> set[str]:
    """Keys of all images whose map is stored; raises ``ReidpipeError`` naming a damaged shard."""
    return {key for shard in shards(folder) for key in keys_of(shard)}
