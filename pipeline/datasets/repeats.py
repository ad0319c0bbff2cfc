"""Which of many texts occur more than once, in eight bytes a text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def may_repeat(texts: Iterable[str], count: int) -> np.ndarray:
    """Places int64, ascending, of the texts that occur more than once among ``count`` texts, and of
    hardly any others: their hashes are compared. A million texts have none in vain.

    A set of the texts, or a dictionary of their rows, takes 60 to 200 bytes of each.
    """
    import numpy as np

    hashes = np.fromiter(map(hash, texts), np.int64, count)
    order = np.argsort(hashes)
    ascending = hashes[order]
    same = ascending[1:] == ascending[:-1]
    repeated = np.zeros(count, bool)
    repeated[order[1:][same]] = True
    repeated[order[:-1][same]] = True
    return np.flatnonzero(repeated)
