"""InvPT's network (Ye & Xu, "Inverted Pyramid Multi-task Transformer", ECCV 2022).

A ViT whose last feature is decoded for several tasks at once: tokens of all tasks attend to each
other in three stages of growing resolution, each stage starting from the scores of the one before.
Module names are those of the published checkpoints. Entries of a checkpoint that nothing reads
(``UNUSED``) are not built; files may have them.

The authors' SyncBatchNorm is BatchNorm2d here (equal in eval mode), and there is no stochastic
depth: the network is for inference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parsing_models.networks.invpt.pyramid import InvertedPyramid, as_maps, resize
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import extent_of

# In this order the tasks' tokens follow each other in every stage.
TASKS = ("semseg", "human_parts", "sal", "normals", "edge")
# A dead layer norm, skip and reductions, and the fusion of a first stage that has no predecessor.
UNUSED = (
    "multi_task_decoder.invpt.norm_mt.*",
    "multi_task_decoder.scale_embed.2.*",
    "multi_task_decoder.invpt.redu_chan.0.*",
    "multi_task_decoder.invpt.invpt_stages.0.blocks.0.attn.fuse_attn.*",
)


@dataclass(frozen=True)
class Sizes:
    """The sizes in which InvPT networks may differ; the defaults are the published ViT-L's.

    tasks: (name, output channels), in the order of ``TASKS``. grid: tokens per side of the input.
    width, depth, heads: of the ViT; patch: input pixels per token. features: channels of each
    task's preliminary feature. tokens: channels of the first stage, halved in each of the others.
    """

    tasks: tuple[tuple[str, int], ...] = (
        ("semseg", 21),
        ("human_parts", 7),
        ("sal", 2),
        ("normals", 3),
        ("edge", 1),
    )
    grid: int = 32
    patch: int = 16
    width: int = 1024
    depth: int = 24
    heads: int = 16
    features: int = 512
    tokens: int = 576

    @property
    def input(self) -> int:
        """Pixels per side of the only input the network accepts."""
        return self.grid * self.patch

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Sizes:
        """Read the sizes off a state dict; what it does not tell keeps the published value.

        Heads are 64 channels wide, as in the published ViTs.
        """
        published = cls()

        def extent(key: str, axis: int, default: int) -> int:
            return extent_of(state, key, axis, default)

        channels = {name: extent(f"heads.{name}.linear_pred.weight", 0, 0) for name in TASKS}
        tasks = tuple((name, count) for name, count in channels.items() if count)
        # Without the task in use it is another network: let the published one name what is missing.
        tasks = tasks if channels["human_parts"] else published.tasks
        found = (re.match(r"backbone\.blocks\.(\d+)\.", key) for key in state)
        patches, decoder = "backbone.patch_embed.proj.weight", "multi_task_decoder"
        width = extent(patches, 0, published.width)
        joint = extent(f"{decoder}.invpt.norm_mts.0.weight", 0, published.tokens * len(tasks))
        return cls(
            tasks=tasks,
            grid=math.isqrt(extent("backbone.pos_embed", 1, published.grid**2 + 1) - 1),
            patch=extent(patches, 2, published.patch),
            width=width,
            depth=len({match[1] for match in found if match}) or published.depth,
            heads=width // 64 if width % 64 == 0 else 1,
            features=extent(
                f"{decoder}.intermediate_head.human_parts.weight", 1, published.features
            ),
            tokens=joint // len(tasks),
        )


class ConvNorm(nn.Module):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv(x)))


class Decoder(nn.Module):
    """Preliminary predictions from the last feature, then the pyramid."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, tokens = sizes.width, sizes.tokens
        self.intermediate_head = nn.ModuleDict(
            {name: nn.Conv2d(sizes.features, channels, 1) for name, channels in sizes.tasks}
        )
        self.invpt = InvertedPyramid(sizes.tasks, sizes.features, tokens)
        self.preliminary_decoder = nn.ModuleDict(
            {
                name: nn.Sequential(ConvNorm(width, width), ConvNorm(width, sizes.features))
                for name, _ in sizes.tasks
            }
        )
        self.scale_embed = nn.ModuleList(
            [
                nn.ConvTranspose2d(width, tokens // 4, 3, 2, padding=1, output_padding=1),
                nn.Conv2d(width, tokens // 2, 3, padding=1),
            ]
        )

    def forward(
        self, levels: Sequence[Tensor], tasks: Sequence[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Three features N,C,h,w of the backbone, the last one last -> features, predictions."""
        last = resize(levels[2], [side // 2 for side in levels[2].shape[2:]])
        inputs, predictions = {}, {}
        for name, decoder in self.preliminary_decoder.items():
            feature = decoder(last)
            predictions[name] = self.intermediate_head[name](feature)
            inputs[name] = torch.cat([feature, predictions[name]], 1)
        skips = [None, self.scale_embed[1](levels[1]), self.scale_embed[0](levels[0])]
        return self.invpt(inputs, skips, tasks), predictions


class Head(nn.Module):
    """A task's logits from its feature, N,C,h,w."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear_pred = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_pred(x)


@dataclass(frozen=True)
class InvPTOutput:
    """Task -> N,C,h,w. logits: those asked for, at a quarter of the input; preliminary: of every
    task, at a 32nd. The authors resize logits to the input bilinearly, ``align_corners`` False."""

    logits: dict[str, Tensor]
    preliminary: dict[str, Tensor]


class InvPT(nn.Module):
    """``forward(images N,3,S,S, normalised, RGB; tasks) -> InvPTOutput``, S = ``sizes.input``.

    tasks: whose logits are computed (default: all); their tokens always take part. Any other
    input size raises ``ReidpipeError``: the table of positions and all grids are fixed.
    """

    def __init__(self, sizes: Sizes | None = None) -> None:
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        sizes = sizes or Sizes()
        self.sizes = sizes
        self.backbone = VisionTransformer(
            img_size=sizes.input,
            patch_size=sizes.patch,
            embed_dim=sizes.width,
            depth=sizes.depth,
            num_heads=sizes.heads,
            num_classes=0,
            weight_init="skip",
        )
        self.multi_task_decoder = Decoder(sizes)
        self.heads = nn.ModuleDict(
            {name: Head(sizes.tokens, channels) for name, channels in sizes.tasks}
        )

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> InvPTOutput:
        side = self.sizes.input
        if images.shape[2:] != (side, side):
            height, width = images.shape[2:]
            raise ReidpipeError(
                f"found an input of {height}x{width}; expected {side}x{side}, the only size InvPT "
                "takes; leave out other scales"
            )
        names = list(self.heads) if tasks is None else list(tasks)
        features, preliminary = self.multi_task_decoder(self.levels(images), names)
        logits = {name: self.heads[name](features[name]) for name in names}
        return InvPTOutput(logits, preliminary)

    def levels(self, images: Tensor) -> list[Tensor]:
        """N,width,grid,grid after a quarter and half of the ViT, and after its final norm.

        The authors also take the feature at three quarters; nothing reads it.
        """
        quarter = self.sizes.depth // 4
        found: Any = self.backbone.forward_intermediates(
            images, indices=[quarter - 1, 2 * quarter - 1], output_fmt="NCHW"
        )
        last, levels = found
        # Without the class token, which comes first.
        return [*levels, as_maps(last[:, 1:], 1, self.sizes.grid)]
