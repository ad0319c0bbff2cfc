"""Published weights are found, or downloaded, without a network being made of them."""

from __future__ import annotations

from pathlib import Path

from reid_train.models import is_tag

NONE = "--pretrained none"


def bring(pretrained: str, network: str, weights: Path, *, instead: str = NONE) -> None:
    """Have ``openai`` (``network``: the CLIP's architecture), ``open_clip:ARCH/TAG`` or
    ``imagenet`` (``network``: the trunk) on this machine, in ``weights`` or where its library keeps
    it. Any other start, and trunks whose library knows no file apart from a network, need nothing.

    instead: what to type to do without. Raises ReidpipeError when they cannot be had.
    """
    if is_tag(pretrained):
        from reid_train.models.clip.tags import fetched, find_tag

        fetched(find_tag(pretrained), instead=instead)
    elif pretrained == "openai":
        from reid_train.models.pretrained import openai_file

        openai_file(network, weights, instead=instead)
    elif pretrained == "imagenet":
        from reid_train.models import imagenet

        if (published := imagenet.OF_TRUNK.get(network)) is not None:
            imagenet.imagenet_file(published, weights)
