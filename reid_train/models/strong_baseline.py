"""ResNet-50 of the strong baselines: BoT, and SBS with IBN, non-local blocks and GeM pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.heads import BNNeck
from reid_train.models.resnet import undilated

POOLINGS = ("average", "gem", "gem-3")


class InstanceBatchNorm(nn.Module):
    """Instance norm on the first half of the channels and batch norm on the rest (Pan et al. 2018,
    IBN-Net, block a): N,C,h,w -> N,C,h,w.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.instance = nn.InstanceNorm2d(self.split, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x[:, : self.split], x[:, self.split :]
        return torch.cat([self.instance(first), self.batch(rest)], 1)


class NonLocal(nn.Module):
    """A non-local block of the dot-product kind (Wang et al. 2018, eq. 4), x + BN(W y) with y =
    theta (phi^T g) / positions. fast-reid projects to a single channel, where the paper halves
    them: ``inner``. The norm starts at 0, and with it the block as the identity.
    """

    def __init__(self, channels: int, *, inner: int = 1) -> None:
        super().__init__()
        self.value, self.query, self.key = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        for parameter in self.out[1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        value, query, key = (layer(x).flatten(2) for layer in (self.value, self.query, self.key))
        # There is no soft-max between: (query key) value = query (key value), the smaller product.
        gathered = key @ value.transpose(1, 2) / value.shape[2]  # N,inner,inner
        mixed = gathered.transpose(1, 2) @ query  # N,inner,h*w
        return x + self.out(mixed.unflatten(2, x.shape[2:]))


class GeneralisedMean(nn.Module):
    """(mean x^p)^(1/p) of each channel, x at least 1e-6 (Radenovic et al. 2018, eq. 3): N,C,h,w ->
    N,C. ``learnt``: whether p, which starts at 3, trains.
    """

    def __init__(self, *, learnt: bool = True) -> None:
        super().__init__()
        p = torch.full((1,), 3.0)
        if learnt:
            self.p = nn.Parameter(p)
        else:
            self.register_buffer("p", p, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class StrongBaseline(nn.Module):
    """ResNet-50 with stride 1 in its last stage, pooling and a BNNeck: normalised images N,3,H,W ->
    ``global`` N,2048 (pooled) and ``embedding`` N,2048 (after the BNNeck), what fast-reid (He et
    al. 2020) returns for retrieval and compares by cosine.

    As it is, the network of BoT (Luo et al. 2019). ``ibn``: IBN-a in stages 1 to 3. ``non_local``:
    how many of the last blocks of each stage are followed by a non-local block; SBS and AGW have
    (0, 2, 3, 0). ``pooling``: "average", "gem" or, with p fixed, "gem-3". ``padded_stem``: whether
    the max pool pads its input, as torchvision's; fast-reid has done without since August 2020.
    Any input size works. Other ``layers`` are ResNet-101's (3, 4, 23, 3), or serve tests.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        layers: Sequence[int] = (3, 4, 6, 3),
        ibn: bool = False,
        non_local: Sequence[int] = (0, 0, 0, 0),
        pooling: str = "average",
        padded_stem: bool = False,
    ) -> None:
        super().__init__()
        del input_size
        if pooling not in POOLINGS:
            raise ReidpipeError(
                f"found pooling '{pooling}'; expected one of {', '.join(POOLINGS)}; "
                "type --set model.options.pooling=average"
            )
        network = undilated(layers)
        self.conv1, self.bn1, self.relu = network.conv1, network.bn1, network.relu
        padded = nn.MaxPool2d(3, 2, padding=1)
        self.maxpool = padded if padded_stem else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.stages = nn.ModuleList(
            [network.layer1, network.layer2, network.layer3, network.layer4]
        )
        for stage in self.stages[:3] if ibn else ():
            for block in stage.children():
                assert isinstance(block, Bottleneck)
                block.bn1 = InstanceBatchNorm(block.conv1.out_channels)
        self.non_local = nn.ModuleList(
            nn.ModuleList(NonLocal(256 * 2**number) for _ in range(count))
            for number, count in enumerate(non_local)
        )
        dim = Bottleneck.expansion * 512
        self.feature_dims = {"global": dim, "embedding": dim}
        self.gem = None if pooling == "average" else GeneralisedMean(learnt=pooling == "gem")
        self.neck = BNNeck(dim)

    def map(self, x: Tensor) -> Tensor:
        """Normalised images N,3,H,W -> N,2048,H/16,W/16."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage, added in zip(self.stages, self.non_local, strict=True):
            blocks, others = list(stage.children()), list(added.children())
            for place, block in enumerate(blocks, len(others) - len(blocks)):
                x = block(x)
                x = others[place](x) if place >= 0 else x
        return x

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        last = self.map(x)
        feature = last.mean((2, 3)) if self.gem is None else self.gem(last)
        return {"global": feature, "embedding": self.neck(feature)}
