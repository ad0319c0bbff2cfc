"""What is asked of a parser, looked at before it computes: images, sizes and scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parsing_models.parsers.catalogue import check_scales

# Of a map, whose logits are held for every class: a photograph of any camera fits.
MOST_PIXELS = 2**28


def check_images(images: Any) -> None:
    """Raise ValueError for what is not uint8 N,H,W,3 or a list of uint8 H,W,3."""
    if not isinstance(images, np.ndarray | list | tuple):
        raise ValueError(
            f"found images that are a {type(images).__name__}; expected uint8 (N, H, W, 3), RGB, "
            "or a list of (H, W, 3)"
        )
    for image in images:
        if not isinstance(image, np.ndarray):
            raise ValueError(
                f"found an image that is a {type(image).__name__}; expected uint8 (H, W, 3), RGB; "
                "numpy.asarray makes one of a PIL image in mode RGB"
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"found an image {image.dtype} {image.shape}; expected uint8 (H, W, 3), RGB"
            )


def size_of_maps(size: Any) -> tuple[int, int] | None:
    """(H, W) as Python's own numbers, or None. Raises ValueError for anything else."""
    if size is None:
        return None
    whole = (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(s, int | np.integer) and not isinstance(s, bool) for s in size)
    )
    if not whole or min(size) < 1 or int(size[0]) * int(size[1]) > MOST_PIXELS:
        raise ValueError(
            f"found size {size!r}; expected (H, W) of at least 1, {MOST_PIXELS} pixels at most, or "
            "None"
        )
    return int(size[0]), int(size[1])


def scales_of_input(scales: Any, *, one_size: str = "") -> tuple[float, ...]:
    """The scales as numbers. Raises ValueError where they are none, ReidpipeError where they make
    no sense, to the parser of that name ``one_size`` in particular.
    """
    try:
        found = tuple(float(scale) for scale in scales) if not isinstance(scales, str) else ()
    except (TypeError, ValueError):
        found = ()
    if not found:
        raise ValueError(f"found scales {scales!r}; expected at least one number, such as (1.0,)")
    check_scales(found, one_size=one_size)
    return found
