"""OSNet: features of several scales in one block, weighed against each other channel by channel."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError

STREAMS = 4
# Which of the two blocks of stages 2, 3 and 4 have instance norm: all of stage 2 (IBN), or where
# the search of the 2021 paper has put it (AIN, its section 5.1 and figure 5).
INSTANCE_NORMS = {
    "batch": ((False, False), (False, False), (False, False)),
    "ibn": ((True, True), (False, False), (False, False)),
    "ain": ((True, True), (False, True), (True, False)),
}


class ConvNorm(nn.Module):
    """Convolution without bias, norm ("batch", "instance" or "none"), ReLU where ``active``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        norm: str = "batch",
        active: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm: nn.Module = nn.Identity()
        if norm != "none":
            instance = norm == "instance"
            self.norm = nn.InstanceNorm2d(outputs, affine=True) if instance else _batch(outputs)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x.relu() if self.active else x


class LightConv(nn.Module):
    """The Lite 3x3 (2019, figure 3b): 1x1 without bias or activation, 3x3 of single channels, batch
    norm, ReLU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = _batch(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.depthwise(self.pointwise(x))).relu()


class AggregationGate(nn.Module):
    """Weights of the channels of one stream from their means, x -> G(x) x: one network that all
    streams of a block share (2019, eq. 4); ``reduced`` is a sixteenth of the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduced = nn.Conv2d(channels, channels // 16, 1)
        self.gates = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(self.reduced(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class OmniScaleBlock(nn.Module):
    """Streams of one to four Lite 3x3 in a row, gated, summed, added to the input (2019, figure 4).

    instance: "" for none, "inside" for an instance norm on the residual in place of its batch norm
    (AIN), "after" for one on the sum (IBN).
    """

    def __init__(self, inputs: int, outputs: int, *, instance: str = "") -> None:
        super().__init__()
        middle = outputs // 4
        self.reduce = ConvNorm(inputs, middle)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv(middle) for _ in range(depth)))
            for depth in range(1, STREAMS + 1)
        )
        self.gate = AggregationGate(middle)
        inside = instance == "inside"
        self.expand = ConvNorm(middle, outputs, norm="none" if inside else "batch", active=False)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, active=False)
        self.inside: nn.Module = _instance(outputs) if inside else nn.Identity()
        self.after: nn.Module = _instance(outputs) if instance == "after" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        # not sum(): its 0 is a tensor more in an exported program
        gated = self.gate(self.streams[0](reduced))
        for stream in self.streams[1:]:
            gated = gated + self.gate(stream(reduced))
        return self.after(self.inside(self.expand(gated)) + self.shortcut(x)).relu()


class OSNet(nn.Module):
    """OSNet (Zhou et al., ICCV 2019; AIN: Zhou et al., TPAMI 2021): normalised images N,3,H,W ->
    ``global`` N,512*width (mean of the last map, stride 16) and ``embedding`` N,512, which is it
    through a linear layer, batch norm and ReLU: what the classifier reads and retrieval compares.

    width: 0.25, 0.5, 0.75 or 1.0 of the channels 64, 256, 384 and 512. norm: "batch", "ibn" or
    "ain" (``INSTANCE_NORMS``; the stem has one in both). The authors compare the raw features of
    "batch" and "ibn" by Euclidean distance and those of "ain" by cosine: a recipe says so in
    ``test.distance``. Any input size works. Convolutions start as of He et al. 2015 by fan-out, the
    linear layer at N(0, 0.01).
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        width: float = 1.0,
        norm: str = "batch",
        dim: int = 512,
    ) -> None:
        super().__init__()
        del input_size
        if norm not in INSTANCE_NORMS:
            raise ReidpipeError(
                f"found norm '{norm}' of OSNet; expected one of {', '.join(INSTANCE_NORMS)}; "
                "type --set model.options.norm=batch"
            )
        first, *channels = (int(width * count) for count in (64, 256, 384, 512))
        if first < 16:
            raise ReidpipeError(
                f"found width {width:g} of OSNet; expected at least 0.25, a gate of one channel; "
                "type --set model.options.width=0.25"
            )
        last = channels[-1]
        self.feature_dims = {"global": last, "embedding": dim}
        where = "after" if norm == "ibn" else "inside"
        self.stem = ConvNorm(3, first, 7, stride=2, norm="batch" if norm == "batch" else "instance")
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, transitions = [], []
        for inputs, outputs, chosen in zip(
            [first, *channels], channels, INSTANCE_NORMS[norm], strict=False
        ):
            blocks = [
                OmniScaleBlock(count, outputs, instance=where if instance else "")
                for count, instance in zip((inputs, outputs), chosen, strict=True)
            ]
            stages.append(nn.Sequential(*blocks))
            transitions.append(ConvNorm(outputs, outputs))
        self.stages, self.transitions = nn.ModuleList(stages), nn.ModuleList(transitions)
        self.halve = nn.AvgPool2d(2, 2)
        self.fc = nn.Sequential(nn.Linear(last, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.apply(_start)

    def map(self, x: Tensor) -> Tensor:
        """Normalised images N,3,H,W -> N,512*width,H/16,W/16."""
        x = self.pool(self.stem(x))
        for number, (stage, transition) in enumerate(
            zip(self.stages, self.transitions, strict=True)
        ):
            x = transition(stage(x))
            x = self.halve(x) if number < 2 else x
        return x

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        feature = self.map(x).mean((2, 3))
        return {"global": feature, "embedding": self.fc(feature)}


def _batch(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


def _instance(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


X025 = partial(OSNet, width=0.25)
X05 = partial(OSNet, width=0.5)
X075 = partial(OSNet, width=0.75)
X10 = partial(OSNet)
IBN_X10 = partial(OSNet, norm="ibn")
AIN_X025 = partial(OSNet, width=0.25, norm="ain")
AIN_X05 = partial(OSNet, width=0.5, norm="ain")
AIN_X075 = partial(OSNet, width=0.75, norm="ain")
AIN_X10 = partial(OSNet, norm="ain")
