"""The published COL780 files: ``final_models/*.pth`` and older ``models/*.pth``."""

from __future__ import annotations

from typing import Any

from torch import nn

from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.imported import (
    Imported,
    PublishedFile,
    State,
    model_spec,
)
from reid_train.models.deployable import build_model
from reid_train.models.heads import CosineSoftmax, WeightNormLinear

# The constants of the authors' test script, rounded there to four digits.
_MEAN, _STD = (0.4726, 0.4468, 0.4811), (0.2765, 0.2747, 0.2764)
# torch's newer parametrization keeps g and v under these names
_WEIGHT_NORM = {
    "cosine_layer.parametrizations.weight.original0": "cosine_layer.weight_g",
    "cosine_layer.parametrizations.weight.original1": "cosine_layer.weight_v",
}


def read(
    state: State,
    source: str,
    *,
    input_size: tuple[int, int] = (128, 48),
    mean: tuple[float, ...] = _MEAN,
    std: tuple[float, ...] = _STD,
) -> Imported:
    """BigNet, SliceNet1 or SliceNet2, told apart by where their keys lie; the number of identities
    comes from the classifier, cosine or weight-normed.
    """
    state = {_WEIGHT_NORM.get(key, key): value for key, value in state.items()}
    normed = any(key.startswith("cosine_layer.") for key in state)
    if normed:
        classes, dim = shape_of(state, "cosine_layer.weight_v", source, 2)
        head: nn.Module = WeightNormLinear(dim=dim, classes=classes)
    else:
        dim, classes = shape_of(state, "cosine_weights", source, 2)
        head = CosineSoftmax(dim=dim, classes=classes)
    if "bignet.dense_10.2.weight" in state:
        name, dense = "slicenet1", "bignet.dense_10.2.weight"
    elif any(key.startswith("bignet.") for key in state):
        name, dense = "slicenet2", "dense_10.2.weight"
    else:
        name, dense = "bignet", "dense_10.2.weight"
    width = shape_of(state, dense, source, 2)[0]
    slices: dict[str, Any] = {} if name == "bignet" else {"slices": dim // width}
    spec = model_spec(name, mean=mean, std=std, input_size=input_size, dim=width, **slices)
    model = build_model(spec)
    merged, children = ([], {"cosine_layer": head}) if normed else ([head], {})
    load_strict(PublishedFile(model.trunk, *merged, **children), state, source=source)
    return Imported(spec, model, {"embedding": head})
