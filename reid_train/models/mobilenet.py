"""MobileNetV2 at a quarter of its width, the student of pi-VL's distillation."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict
from reid_train.models.heads import BNNeck
from reid_train.models.imagenet import MOBILENET_V2_025, imagenet_state

# Last layers of torchvision's ``features`` at strides 4, 8 and 16.
_ENDS = (4, 7, 14)


class MobileNetV2Quarter(nn.Module):
    """MobileNetV2 x0.25 (Sandler et al. 2018): normalised images N,3,H,W -> ``global`` N,1280
    (mean of the last map, stride 32), ``embedding`` N,1280 (after a BNNeck) and ``levels``, maps at
    strides 4, 8 and 16 with ``level_dims`` channels.

    The last layer keeps 1280 channels, as in the published ImageNet weights
    (github.com/d-li14/mobilenetv2.pytorch). ``pretrained`` is "none", "imagenet" (those weights;
    ``weights`` is the folder of downloads) or a file in their layout or torchvision's: both name
    the same layers in the same order. Any input size works.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        pretrained: str = "none",
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        del input_size
        network = MobileNetV2(width_mult=0.25)
        dim = network.last_channel
        self.feature_dims = {"global": dim, "embedding": dim}
        self.level_dims = (8, 8, 24)
        self.features = network.features
        if pretrained != "none":
            state = imagenet_state(pretrained, MOBILENET_V2_025, weights=weights)
            load_strict(self, self._renamed(state, pretrained), source=pretrained)
        self.neck = BNNeck(dim)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Normalised images N,3,H,W -> maps at strides 4, 8, 16: N,8 and N,8 and N,24 channels
        (``level_dims``).
        """
        maps, start = [], 0
        for end in _ENDS:
            x = self.features[start:end](x)
            maps.append(x)
            start = end
        return maps

    def map(self, x: Tensor) -> Tensor:
        """Normalised images N,3,H,W -> N,1280,H/32,W/32."""
        return self.features(x)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        levels = self.maps(x)
        feature = self.features[_ENDS[-1] :](levels[-1]).mean((2, 3))
        return {
            "global": feature,
            "embedding": self.neck(feature),
            "levels": levels,  # type: ignore[dict-item]
        }

    def _renamed(self, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        """``state`` under our names, by its order when it is in d-li14's layout."""
        if any(key.startswith("conv.0") for key in state):
            counter = "num_batches_tracked"
            own = [key for key in self.state_dict() if not key.endswith(counter)]
            given = [key for key in state if not key.endswith(counter)]
            kinds = [[key.rsplit(".", 1)[-1] for key in keys] for keys in (own, given)]
            if kinds[0] != kinds[1]:
                raise ReidpipeError(
                    f"found {len(given)} entries in {source}; expected the {len(own)} of "
                    "MobileNetV2 in their order; give d-li14's file, or type --pretrained none"
                )
            return {name: state[key] for name, key in zip(own, given, strict=True)}
        return state
