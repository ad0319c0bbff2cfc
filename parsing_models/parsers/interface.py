"""From images to label maps: what every parser shares, whatever its network."""

from __future__ import annotations

import importlib.metadata
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parsing_models.parsers.asked import check_images, scales_of_input, size_of_maps
from parsing_models.parsers.warp import GrownBox, Placement, Size, to_grid, to_input
from pipeline.labels.sets import LabelSet
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import Runtime, free_memory, on_cpu
from reid_train.engine.units import computed_in

log = logging.getLogger(__name__)

MOST_IMAGES = 64
# Peak floats a network holds per input pixel; measured on SCHP's ResNet-101 (its fusion input).
FLOATS_PER_PIXEL = 256
# On a CPU: one image of 473x473 at a time, a dozen of 192x96. Larger slices take longer per image,
# as what a network holds is then fetched anew from the system and leaves the cache.
MEMORY_MIB = 256
# About a core's second-level cache, which holds logits at the grid of one image.
IN_CACHE_MIB = 4
# Images that a CPU warps together, in float64: more leave the cache too.
WARPED = 2


@dataclass(frozen=True)
class LabelMaps:
    """label: u1, confidence: f4 in 0..1, the maximum soft-max after warping. Both N,H,W, or lists
    of H,W where the images were a list and each keeps its own size."""

    label: np.ndarray | list[np.ndarray]
    confidence: np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects. input_size (H, W); channel_order ``rgb`` or ``bgr``; mean, std of
    pixels in 0..1, in that channel order."""

    input_size: Size
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass
class Parser:
    """A network with everything around it.

    network: normalised N,3,H,W -> logits N,C,h,w at any resolution, asked by several threads at
    once. align_corners: how its authors resize them to the input. name, facts: what the label-map
    cache records about it. memory_mib: rough bound on working memory on a CPU; larger batches go
    through in slices. A GPU takes ``MOST_IMAGES`` at once; where memory runs out slices are halved,
    and stay so. placement: where an image lies on the input. precision: ``fp32``, or that of
    ``in_precision``. one_size: the network takes no other input size, so no scale but 1.
    """

    network: Callable[[Tensor], Tensor]
    label_set: LabelSet
    preprocessing: Preprocessing
    device: torch.device
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    align_corners: bool = True
    memory_mib: int = MEMORY_MIB
    placement: Placement = GrownBox()
    precision: str = "fp32"
    one_size: bool = False
    most_images: int = field(default=MOST_IMAGES, init=False)

    @property
    def input_size(self) -> Size:
        """(H, W) of the network's input."""
        return self.preprocessing.input_size

    def attributes(self, *, flip: bool = False, scales: Sequence[float] = (1.0,)) -> dict[str, Any]:
        """JSON-plain facts that determine its maps, for the label-map cache."""
        given = self.preprocessing
        return {
            "model": self.name,
            **self.facts,
            "classes": len(self.label_set),
            "input_size": list(given.input_size),
            "channel_order": given.channel_order,
            "mean": list(given.mean),
            "std": list(given.std),
            "warp": self.placement.description,
            "align_corners": self.align_corners,
            "flip": flip,
            "scales": list(scales),
            "confidence": "maximum soft-max after warping",
            "precision": self.precision,
            "device": self.device.type,
            "torch": str(torch.__version__),
            "reidpipe": importlib.metadata.version("reidpipe"),
        }

    @torch.inference_mode()
    def parse(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        size: Size | None = (256, 128),
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> LabelMaps:
        """Label maps of RGB images: uint8 N,H,W,3, or a list of uint8 H,W,3 of any sizes.

        size: (H, W) of the maps, laid over the whole image; None gives each image's own size.
        flip: average with the mirrored image, sides exchanged. scales: average over input sizes.
        Averages are of logits, before the soft-max. Raises ``ValueError`` on other images or sizes,
        ``ReidpipeError`` on senseless scales, when the memory is too small for a single image, and
        when the network gave NaN.
        """
        check_images(images)
        scales = scales_of_input(scales, one_size=self.name if self.one_size else "")
        size = size_of_maps(size)
        labels: list[np.ndarray] = []
        confidences: list[np.ndarray] = []
        start = 0
        while start < len(images):
            part = [np.asarray(image) for image in images[start : start + self.slice_images]]
            maps = self._within_memory(part, size, flip=flip, scales=scales)
            if maps is None:
                continue
            start += len(part)
            for label, confidence in maps:
                labels.append(label)
                confidences.append(confidence)
        if size is None and not isinstance(images, np.ndarray):
            return LabelMaps(labels, confidences)
        height, width = size or images.shape[1:3]  # type: ignore[union-attr]
        empty = np.empty((0, height, width))
        return LabelMaps(
            np.stack(labels) if labels else empty.astype(np.uint8),
            np.stack(confidences) if confidences else empty.astype(np.float32),
        )

    def check(self, called: str, scales: Sequence[float] = (1.0,)) -> None:
        """Raise ReidpipeError where the network makes nothing of images of its input's size, at
        these scales.
        """
        try:
            self.parse(np.zeros((1, 128, 64, 3), np.uint8), scales=scales)
        except (RuntimeError, ValueError, ArithmeticError, LookupError) as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            height, width = self.input_size
            scaled = "" if tuple(scales) == (1.0,) else f" at scales {','.join(map(str, scales))}"
            raise ReidpipeError(
                f"found an input of {height}x{width}{scaled}, of which '{called}' makes nothing "
                f"({str(error).splitlines()[0]}); expected a size, or a model, that fits; leave "
                f"{'--scales' if scaled else 'input_size'} out, or type another model"
            ) from error

    @property
    def slice_images(self) -> int:
        """Images that go through the network together."""
        if not on_cpu(self.device):
            return self.most_images
        height, width = self.input_size
        fit = self.memory_mib * 2**20 // (4 * FLOATS_PER_PIXEL * height * width)
        return max(1, min(self.most_images, fit))

    def _within_memory(
        self, images: list[np.ndarray], size: Size | None, *, flip: bool, scales: Sequence[float]
    ) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Their maps; None when memory ran out, and slices will be smaller from now on."""
        try:
            logits = self.logits(self.to_input(images), flip=flip, scales=scales)
            return self._to_maps(logits, images, size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(images) == 1:
                raise ReidpipeError(
                    f"found too little memory on {self.device} for one image at "
                    f"{self.input_size[0]}x{self.input_size[1]}; expected room for the network and "
                    "one image; free some, or type --device cpu"
                ) from error
        # Only here, outside the handler, are the tensors of the failed attempt free.
        free_memory(self.device)
        if self.most_images == MOST_IMAGES:
            log.warning(
                "too little memory on %s for %d images at once: going on with %d or less",
                *(self.device, len(images), len(images) // 2),
            )
        self.most_images = max(1, min(self.most_images, len(images) // 2))
        return None

    def to_input(self, images: Sequence[np.ndarray]) -> Tensor:
        """Images (RGB) -> normalised N,3,H,W on the device."""
        given = self.preprocessing
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (given.mean, given.std)
        )
        inputs = torch.empty(len(images), 3, *given.input_size, device=self.device)
        for shape, equal in _by_size(images).items():
            similarity = self.placement.similarity(shape, given.input_size)
            for rows in _parts(equal, WARPED if on_cpu(self.device) else len(equal)):
                pixels = self._uploaded(np.stack([images[row] for row in rows]))
                part = to_input(pixels.permute(0, 3, 1, 2), given.input_size, similarity)
                if given.channel_order == "bgr":
                    part = part.flip(1)
                inputs[rows] = similarity.pad_(part.div_(255).sub_(mean).div_(std))
        return inputs

    def _uploaded(self, pixels: np.ndarray) -> Tensor:
        return Runtime(self.device).move({"pixels": torch.from_numpy(pixels)})["pixels"]

    def logits(
        self, inputs: Tensor, *, flip: bool = False, scales: Sequence[float] = (1.0,)
    ) -> list[Tensor]:
        """Normalised N,3,H,W -> logits N,C,h,w, one tensor per scale.

        Test-time options as in SCHP's ``evaluate.py``: mirrored logits come back with the label
        set's sides exchanged and are averaged at each scale; scales are averaged at input size,
        which the warp to the grid does.
        """
        order = torch.from_numpy(self.label_set.flip_order).to(self.device)
        outputs = []
        for scale in scales:
            x = inputs if scale == 1 else rescale(inputs, scale)
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
            if flip:
                mirrored = self.network(x.flip(-1).contiguous(memory_format=torch.channels_last))
                logits = (logits + mirrored[:, order].flip(-1)) / 2
            outputs.append(logits.contiguous())
        return outputs

    def _to_maps(
        self, logits: list[Tensor], images: Sequence[np.ndarray], size: Size | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        found: list[tuple[list[int], Tensor, Tensor]] = []
        for shape, rows in _by_size(images).items():
            grid = size or shape
            # On a CPU, logits at the grid that leave the cache cost more than the network.
            mib = IN_CACHE_MIB if on_cpu(self.device) else self.memory_mib
            step = max(1, mib * 2**20 // (4 * len(self.label_set) * grid[0] * grid[1]))
            for part in _parts(rows, step):
                found.append((part, *_decided(self._at_grid(logits, part, shape, grid))))
        # Fetched last: each fetch waits for a GPU, which until then has work queued.
        maps: list[Any] = [None] * len(images)
        for part, label, confidence in found:
            certain = confidence.cpu().numpy()
            if not np.isfinite(certain).all():
                raise ReidpipeError(
                    f"found NaN in what {self.name} made of an image, computed in {self.precision} "
                    f"on {self.device}; expected finite numbers: type --precision fp32, or other "
                    "weights"
                )
            pairs = zip(label.cpu().numpy(), certain, strict=True)
            for row, pair in zip(part, pairs, strict=True):
                maps[row] = pair
        return maps

    def _at_grid(self, logits: list[Tensor], rows: list[int], image: Size, grid: Size) -> Tensor:
        similarity = self.placement.similarity(image, self.input_size)
        warped = [
            to_grid(
                each[rows],
                self.input_size,
                image,
                grid,
                align_corners=self.align_corners,
                similarity=similarity,
            )
            for each in logits
        ]
        return warped[0] if len(warped) == 1 else torch.stack(warped).mean(0)


@dataclass(frozen=True)
class Reduced:
    """A network computed in a reduced precision: float32 in, float32 out."""

    network: Callable[[Tensor], Tensor]
    runtime: Runtime

    def __call__(self, inputs: Tensor) -> Tensor:
        with self.runtime.autocast():
            return self.network(inputs).float()


def in_precision(parser: Parser, precision: str) -> Parser:
    """``parser`` with its network in ``fp32``, ``bf16`` or ``fp16``, weights shared; the warps
    around it stay as they are. A CPU without units for it computes in fp32, and its ``precision``
    says so.
    """
    if not isinstance(parser, Parser):
        if precision != "fp32":
            raise ReidpipeError(
                f"found --precision {precision} for parser '{parser.name}', whose network is not "
                "ours; expected fp32; leave it out"
            )
        return parser
    network = parser.network.network if isinstance(parser.network, Reduced) else parser.network
    if on_cpu(parser.device):
        precision = computed_in(precision)
    if precision != "fp32":
        network = Reduced(network, Runtime(parser.device, precision))
    return replace(parser, network=network, precision=precision)


def out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether it says so: torch's own error for GPUs; allocators of CPUs and libraries have only a
    text."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(
        words in text for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _decided(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits N,C,H,W -> the first of the largest classes u1 N,H,W, and its soft-max f4 N,H,W.

    The same as ``softmax(1).max(1)`` in a third of the time on a CPU; the logits are overwritten.
    """
    top = logits.amax(1)
    label = torch.zeros_like(top, dtype=torch.uint8)
    for number in range(logits.shape[1] - 1, -1, -1):
        label.masked_fill_(logits[:, number] == top, number)
    # exp is ten times slower where its result is denormal; e^-60 adds nothing to a sum above 1.
    return label, logits.sub_(top[:, None]).clamp_min_(-60).exp_().sum(1).reciprocal_()


def rescale(inputs: Tensor, scale: float, *, least: int = 1, align_corners: bool = True) -> Tensor:
    """Inputs N,3,H,W at another size, bilinear. Raises ReidpipeError where a side becomes shorter
    than ``least`` pixels.
    """
    height, width = (int(side * scale) for side in inputs.shape[2:])
    if scale < 1 and min(height, width) < least:
        raise ReidpipeError(
            f"found input {height}x{width}; expected sides from {least}; type --scales 1.0"
        )
    return F.interpolate(inputs, scale_factor=scale, mode="bilinear", align_corners=align_corners)


def _parts(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _by_size(images: Sequence[np.ndarray]) -> dict[Size, list[int]]:
    # Equal sizes share one warp; batches of unequal images must not be padded to each other,
    # or an image's map would depend on its neighbours.
    groups: dict[Size, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        groups[image.shape[0], image.shape[1]].append(row)
    return dict(groups)
