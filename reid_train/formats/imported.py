"""What a published checkpoint becomes, and how its entries are taken from the state dict."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.errors import ReidpipeError
from reid_train.models.reid_model import ReidModel

State = dict[str, Tensor]


@dataclass(frozen=True)
class Imported:
    """A published checkpoint taken apart: what retrieves, and the classifiers it was trained with
    (feature name -> ``forward(feature N,D) -> logits N,C``), which retrieval does without.
    """

    model: ReidModel
    heads: dict[str, nn.Module] = field(default_factory=dict)


class PublishedFile(nn.Module):
    """Modules arranged under a file's own key names, so that every refusal names the file's keys:
    the children and parameters of ``merged`` at the top, ``children`` under their names.
    """

    def __init__(self, *merged: nn.Module, **children: nn.Module) -> None:
        super().__init__()
        for module in merged:
            for name, child in module.named_children():
                self.add_module(name, child)
            for name, parameter in module.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
        for name, child in children.items():
            self.add_module(name, child)


def shape_of(state: State, key: str, source: str) -> tuple[int, ...]:
    """Shape of an entry the format must have; ReidpipeError when it is absent."""
    if key not in state:
        raise ReidpipeError(
            f"found no key '{key}' in {source}; expected a file of this format; "
            "give the file that belongs to it or another format"
        )
    return tuple(state[key].shape)
