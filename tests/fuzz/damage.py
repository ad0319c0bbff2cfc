"""Bytes that are not as they were written."""

from __future__ import annotations

import random


def damaged(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """``data`` cut, flipped, overwritten, moved, doubled or filled, never as it was; and in words
    what was done to it.
    """
    if not data:
        return rng.randbytes(rng.randrange(1, 64)), "bytes in place of nothing"
    for _ in range(9):
        found, about = _WAYS[rng.randrange(len(_WAYS))](rng, bytearray(data))
        if bytes(found) != data:
            return bytes(found), about
    return data[:-1], "the last byte gone"


def flipped(rng: random.Random, data: bytes, start: int = 0) -> tuple[bytes, int]:
    """``data`` with one bit from ``start`` on turned, and where."""
    at = rng.randrange(start, len(data))
    changed = bytearray(data)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed), at


def _cut(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    size = rng.choice((0, 1, rng.randrange(len(data)), max(len(data) - rng.randrange(1, 64), 0)))
    return bytes(data[:size]), f"cut to {size} bytes"


def _flip(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    count = rng.choice((1, 1, 1, 4, 32))
    for _ in range(count):
        # Headers are where formats lie: half of the bits are turned there.
        at = rng.randrange(min(len(data), 256)) if rng.random() < 0.5 else rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data), f"{count} bits turned"


def _overwrite(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data)), rng.choice((1, 4, 8, 64))
    filling = rng.choice((b"\0" * size, b"\xff" * size, rng.randbytes(size)))
    data[at : at + size] = filling
    return bytes(data), f"{size} bytes overwritten at {at}"


def _without(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data)), rng.randrange(1, 64)
    return bytes(data[:at] + data[at + size :]), f"{size} bytes gone at {at}"


def _doubled(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data)), rng.randrange(1, 256)
    return bytes(data[: at + size] + data[at:]), f"{size} bytes twice at {at}"


def _longer(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    size = rng.choice((1, 16, 4096))
    return bytes(data) + rng.randbytes(size), f"{size} bytes more at the end"


def _other(rng: random.Random, data: bytearray) -> tuple[bytes, str]:
    found = rng.choice(
        (b"", b"\0" * len(data), b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0\n", b"PK\5\6")
    )
    return found, "something else altogether"


_WAYS = (_cut, _flip, _flip, _flip, _overwrite, _overwrite, _without, _doubled, _longer, _other)
