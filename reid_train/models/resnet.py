"""ResNet-50 as Simple-ReID trains it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from reid_train.engine.checkpoint import load_strict
from reid_train.models.imagenet import RESNET50, imagenet_state


def undilated(layers: Sequence[int]) -> ResNet:
    """torchvision's ResNet of bottlenecks with stride 1 in its last stage, as re-identification has
    it: torchvision can only exchange a stride for dilation, which is another network.
    """
    network = ResNet(Bottleneck, list(layers))
    for name in ("0.conv2", "0.downsample.0"):
        convolution = network.layer4.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)
    return network


class ResNet50(nn.Module):
    """ResNet-50 (He et al. 2016) with stride 1 in its last stage, a global average and a batch
    norm: normalised images N,3,H,W -> ``global`` N,2048 (before the norm) and ``embedding`` N,2048
    (after it), the network of github.com/guxinqian/Simple-ReID.

    Scale and shift of that norm both train and start at N(1, 0.02) and 0; classifier and pair loss
    alike read the normalised feature. ``pretrained`` is "none", "imagenet" (torchvision's first
    weights, as the authors use; ``weights`` is the folder of downloads) or a file in torchvision's
    layout. Any input size works. Fewer ``layers`` serve tests.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        layers: tuple[int, int, int, int] = (3, 4, 6, 3),
        pretrained: str = "none",
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        del input_size
        network = undilated(layers)
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        if pretrained != "none":
            state = imagenet_state(pretrained, RESNET50, weights=weights)
            load_strict(self, state, source=pretrained)
        dim = Bottleneck.expansion * 512
        self.feature_dims = {"global": dim, "embedding": dim}
        self.bn = nn.BatchNorm1d(dim)
        nn.init.normal_(self.bn.weight, mean=1.0, std=0.02)

    def map(self, x: Tensor) -> Tensor:
        """Normalised images N,3,H,W -> N,2048,H/16,W/16."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        feature = self.map(x).mean((2, 3))
        return {"global": feature, "embedding": self.bn(feature)}
