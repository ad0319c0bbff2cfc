"""The two ways in which images are decoded, as parameters of steps; read without numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pipeline.terminal.errors import ReidpipeError

# What a person sees, or what the loaders of published datasets read: pipeline.images.appearance.
Decoding = Literal["as-seen", "as-stored"]


def decoding_params(decoding: Decoding) -> dict[str, Decoding]:
    """What says ``decoding`` among a step's parameters: nothing of ``as-stored``, the first way
    there was; ``decoding_of`` is the inverse."""
    return {} if decoding == "as-stored" else {"decoding": decoding}


def decoding_of(params: Mapping[str, Any]) -> Decoding:
    """How images are decoded, by the parameters of a step or what an index says of itself. Raises
    ReidpipeError for a way that there is not."""
    found = params.get("decoding", "as-stored")
    if found not in get_args(Decoding):
        raise ReidpipeError(
            f"found decoding '{found}'; expected one of {', '.join(get_args(Decoding))}"
        )
    return found
