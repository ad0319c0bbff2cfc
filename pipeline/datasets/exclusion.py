"""Exclusion rules: which gallery images a query does not see, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Exclude = Literal[
    "same-camera",
    "same-image",
    "same-place",
    "same-camera-or-clothes",
    "same-camera-or-other-clothes",
    "none",
]
# The column of an index that says what somebody wears: equal words, equal clothes.
CLOTHES = "clothes"


@dataclass(frozen=True)
class Rule:
    """What a rule hides: of the query's identity, or of ``everyone``.

    camera: images of the query's camera (or camera group). clothes: those in the ``same`` clothes,
    or in ``other`` ones. image: the identical image, whoever it is of. counted: which images of
    the query's person are left, in words.
    """

    counted: str
    camera: bool = False
    clothes: Literal["same", "other"] | None = None
    image: bool = False
    everyone: bool = False

    def hides(self, camera: Any, clothes: Any, cameras: Any, worn: Any) -> Any:
        """Which of N images are hidden by camera and clothes: bool (N,).

        camera, clothes: the query's, or (N,) arrays of those of N queries; cameras, worn: (N,)
        arrays of the images'. What the rule does not look at may be None.
        """
        import numpy as np

        hidden = np.zeros(np.shape(worn if cameras is None else cameras), bool)
        if self.camera:
            hidden |= cameras == camera
        if self.clothes is not None:
            hidden |= (worn == clothes) == (self.clothes == "same")
        return hidden


RULES: dict[str, Rule] = {
    "same-camera": Rule("from another camera", camera=True),
    "same-image": Rule("besides the query itself", image=True),
    "same-place": Rule("from another place", camera=True, everyone=True),
    "same-camera-or-clothes": Rule(
        "from another camera in other clothes", camera=True, clothes="same"
    ),
    "same-camera-or-other-clothes": Rule(
        "from another camera in the same clothes", camera=True, clothes="other"
    ),
    "none": Rule("by the same pid"),
}
