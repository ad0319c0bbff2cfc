"""open_clip's modules that we take, without all that its package imports besides.

``import open_clip`` loads timm, transformers and torchvision's models, several CPU seconds of every
process, for entrances that we do not use. Its towers and its tokeniser stand alone. Whoever asks
for more than they have (``import open_clip; open_clip.create_model``) gets the whole package then,
with the same classes in it.
"""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_EXECUTING = threading.RLock()
_BEGUN = "__reidpipe_begun__"


class Postponed(ModuleType):
    """A package that is executed when something is asked of it that is none of its modules."""

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet; raises AttributeError for what never will be."""
        with _EXECUTING:
            if type(self) is Postponed and _BEGUN not in vars(self):
                _execute(self)
        return ModuleType.__getattribute__(self, name)


def _execute(package: ModuleType) -> None:
    spec = package.__spec__
    assert spec is not None and spec.loader is not None
    vars(package)[_BEGUN] = True
    try:
        spec.loader.exec_module(package)
        package.__class__ = ModuleType
    finally:
        del vars(package)[_BEGUN]


def postpone(name: str) -> None:
    """Let modules of the package ``name`` be imported without it. Nothing is changed where it has
    been imported, or is not installed.
    """
    parent, _, own = name.rpartition(".")
    if name in sys.modules or (spec := find_spec(name)) is None:
        return
    package = module_from_spec(spec)
    package.__class__ = Postponed
    sys.modules[name] = package
    if parent:
        setattr(sys.modules[parent], own, package)


for _package in ("torchvision", "torchvision.ops", "open_clip"):
    postpone(_package)

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD  # noqa: E402
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet  # noqa: E402
from open_clip.pretrained import (  # noqa: E402
    download_pretrained,
    get_pretrained_cfg,
    get_pretrained_url,
    list_pretrained,
    list_pretrained_tags_by_model,
)
from open_clip.transformer import TextTransformer, VisionTransformer  # noqa: E402

__all__ = [
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "AttentionPool2d",
    "ModifiedResNet",
    "TextTransformer",
    "VisionTransformer",
    "download_pretrained",
    "get_pretrained_cfg",
    "get_pretrained_url",
    "list_pretrained",
    "list_pretrained_tags_by_model",
]
