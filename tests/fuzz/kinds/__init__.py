"""Every kind of input: name -> what makes one, and how many of a hundred are of it."""

from __future__ import annotations

from tests.fuzz.case import Maker
from tests.fuzz.kinds import archives, artifacts, folders, images, optional, tensors, texts

_WEIGHTS = {"recipe": 8, "manifest": 7, "setting": 5, "workspace": 14, "optional": 5}
KINDS: dict[str, tuple[Maker, int]] = {
    name: (maker, _WEIGHTS.get(name, 3))
    for module in (texts, artifacts, optional, tensors, folders, images, archives)
    for name, maker in module.KINDS.items()
}
