"""What a Hugging Face image processor says about a network's input, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parsing_models.parsers.hub import FIXED_SIZE
from parsing_models.parsers.interface import Preprocessing
from parsing_models.parsers.warp import Size
from pipeline.images.normalisation import HALF, IMAGENET_MEAN, IMAGENET_STD, Triple
from pipeline.terminal.errors import ReidpipeError

# Of an input: SegFormer's first attention looks at 8 x 8 places of 4 pixels; the largest published
# inputs have sides of 1,333.
LEAST_SIDE, MOST_SIDE = 32, 4096
# Numbers of PIL, as image processors store them.
RESAMPLE = {2: "bilinear", 3: "bicubic"}
# They take the root of the number of tokens for the side of the grid.
SQUARE = ("dpt", "tipsv2_dpt")


@dataclass(frozen=True)
class Defaults:
    """Values of a type's image processor that a file without them means."""

    size: Any
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    resample: int = 2
    normalise: bool = True
    bgr: bool = False


_EDGES = {"shortest_edge": 800, "longest_edge": 1333}
DEFAULTS = {
    "beit": Defaults(224, HALF, HALF, 3),
    "data2vec-vision": Defaults(224, HALF, HALF, 3),
    "dpt": Defaults(384, HALF, HALF, 3),
    "mobilenet_v2": Defaults({"shortest_edge": 256}, HALF, HALF),
    "mobilevit": Defaults({"shortest_edge": 224}, HALF, HALF, 3, normalise=False, bgr=True),
    "mobilevitv2": Defaults({"shortest_edge": 224}, HALF, HALF, 3, normalise=False, bgr=True),
    "sapiens2": Defaults({"height": 1024, "width": 768}),
    "mask2former": Defaults(_EDGES),
    "maskformer": Defaults(_EDGES),
    "oneformer": Defaults(_EDGES),
    "eomt": Defaults(640),
    "eomt_dinov3": Defaults(640),
}
# SegFormer's, which UperNet shares.
OTHERS = Defaults(512)


def preprocessing(
    model_type: str, config: Any, processor: Mapping[str, Any]
) -> tuple[Preprocessing, str]:
    """The input of a network and how images are resized to it (``bilinear`` or ``bicubic``).

    processor: ``preprocessor_config.json``, or empty; what it lacks comes from ``DEFAULTS``. The
    whole image is squashed to the input; cropping and padding of a processor are left out, an image
    being one person already. The size is ``input_size`` below.
    Raises ``ReidpipeError`` for values that are none of an image processor.
    """
    usual = DEFAULTS.get(model_type, OTHERS)
    if not processor.get("do_normalize", usual.normalise):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        mean = _triple(processor.get("image_mean") or usual.mean, "image_mean")
        std = _triple(processor.get("image_std") or usual.std, "image_std")
    # Ours are of pixels in 0..1, whatever the processor divides by.
    factor = _number(processor.get("rescale_factor") or 1 / 255, "rescale_factor")
    if not factor > 0 or min(std) <= 0:
        raise ReidpipeError(
            f"found image_std {list(std)} and rescale_factor {factor} in the image processor; "
            "expected numbers above 0; correct preprocessor_config.json"
        )
    unit = 255 * factor if processor.get("do_rescale", True) else 255.0
    if abs(unit - 1) > 1e-6:
        mean = (mean[0] / unit, mean[1] / unit, mean[2] / unit)
        std = (std[0] / unit, std[1] / unit, std[2] / unit)
    number = processor.get("resample", usual.resample)
    if type(number) is not int or number not in RESAMPLE:
        raise ReidpipeError(
            f"found resample {number} in the image processor; expected 2 (bilinear) or 3 "
            "(bicubic); correct preprocessor_config.json"
        )
    order = "bgr" if processor.get("do_flip_channel_order", usual.bgr) else "rgb"
    size = input_size(model_type, config, processor.get("size") or usual.size)
    if not LEAST_SIDE <= min(size) <= max(size) <= MOST_SIDE:
        raise ReidpipeError(
            f"found an input of {size[0]}x{size[1]} pixels by the image processor; expected sides "
            f"from {LEAST_SIDE} to {MOST_SIDE}; correct preprocessor_config.json"
        )
    return Preprocessing(size, order, mean, std), RESAMPLE[number]


def input_size(model_type: str, config: Any, size: Any) -> Size:
    """(H, W) of the input for upright crops.

    A height and a width that differ are taken as they are. A square would squash a crop of a
    person to twice its breadth: half its width is taken (512x512 becomes 512x256). Edges keep an
    image's aspect, which is 2:1 here: the shorter is the width, as far as the longer allows,
    in steps of 32. Networks with one grid of positions get the size of that grid, and those that
    hold every grid for a square get a square.
    """
    if model_type in FIXED_SIZE:
        side = config.image_size
        height, width = side if isinstance(side, list | tuple) else (side, side)
        return _side(height), _side(width)
    if isinstance(size, Mapping) and "shortest_edge" in size:
        width = min(_side(size["shortest_edge"]), _side(size.get("longest_edge") or 10**6) // 2)
        width = max(32, width // 32 * 32)
        return 2 * width, width
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        height, width = _side(size["height"]), _side(size["width"])
    elif isinstance(size, list | tuple) and len(size) == 2:
        height, width = _side(size[0]), _side(size[1])
    elif isinstance(size, int):
        height = width = size
    else:
        raise ReidpipeError(
            f"found size {size} in the image processor; expected a height and a width, or a "
            "shortest edge; correct preprocessor_config.json"
        )
    if model_type in SQUARE:
        return height, height
    return (height, width // 2) if height == width else (height, width)


def _side(value: Any) -> int:
    return int(_number(value, "size")) if value != 10**6 else 10**6


def _number(value: Any, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6:
        return float(value)
    raise ReidpipeError(
        f"found {name} {repr(value)[:60]} in the image processor; expected a number; correct "
        "preprocessor_config.json"
    )


def _triple(values: Any, name: str) -> Triple:
    if isinstance(values, list | tuple) and len(values) == 3:
        first, second, third = (_number(value, name) for value in values)
        return first, second, third
    raise ReidpipeError(
        f"found {name} {values} in the image processor; expected three numbers, one per colour; "
        "correct preprocessor_config.json"
    )
