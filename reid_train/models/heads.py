"""Parts only training needs: classifiers on a feature, ``forward(feature N,D) -> logits N,C``, and
a projection for others to read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full


class CosineSoftmax(nn.Module):
    """Logits k cos(feature, class), one learnt scale for all classes (Wojke & Bewley 2018, eq. 7).

    ``cosine_weights`` D,C has its columns normalised; the feature is used as it comes (SliceNet1's
    has norm 2). ``k`` starts at 1 and is unconstrained, as in the COL780 files; Wojke's own code
    uses softplus(scale) instead. Weights start at N(0, ``std``): their length, which never shrinks,
    says how fast Adam's steps turn them. None: dim**-0.5, class vectors of length 1; the COL780
    files began at 1.
    """

    def __init__(self, *, dim: int, classes: int, std: float | None = None) -> None:
        super().__init__()
        scale = dim**-0.5 if std is None else std
        self.cosine_weights = nn.Parameter(torch.randn(dim, classes) * scale)
        self.k = nn.Parameter(torch.tensor(1.0))

    def forward(self, feature: Tensor) -> Tensor:
        return self.k * (feature @ F.normalize(self.cosine_weights, dim=0))  # N,C


class WeightNormLinear(nn.Module):
    """Logits g_c cos(feature, class) |feature|: a weight-normalised linear layer with no bias
    (Salimans & Kingma 2016), the earlier COL780 classifier: a learnt norm per class, no shared
    scale. Keys are torch's old ones: ``weight_g`` C,1 and ``weight_v`` C,D.
    """

    def __init__(self, *, dim: int, classes: int) -> None:
        super().__init__()
        weight = torch.empty(classes, dim)
        nn.init.kaiming_uniform_(weight, a=5**0.5)
        self.weight_v = nn.Parameter(weight)
        self.weight_g = nn.Parameter(weight.norm(dim=1, keepdim=True))

    def forward(self, feature: Tensor) -> Tensor:
        return F.linear(feature, self.weight_g * F.normalize(self.weight_v))  # N,C


class CosineClassifier(nn.Module):
    """Logits cos(feature, class) without a scale: scale and margin belong to the loss
    (``reid_train.losses.margin``). ``weight`` C,D starts as unit vectors. Computed in float32
    whatever autocast says: the losses multiply the cosines by up to a hundred.
    """

    def __init__(self, *, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(classes, dim).uniform_(-1, 1)))

    def forward(self, feature: Tensor) -> Tensor:
        with torch.autocast(feature.device.type, enabled=False):
            return F.linear(F.normalize(full(feature)), F.normalize(self.weight))  # N,C


class LinearClassifier(nn.Module):
    """Plain linear logits; weights start at N(0, ``std``), the usual choice after a BNNeck."""

    def __init__(self, *, dim: int, classes: int, bias: bool = False, std: float = 0.001) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, classes, bias=bias)
        nn.init.normal_(self.classifier.weight, std=std)
        if bias:
            nn.init.zeros_(self.classifier.bias)

    def forward(self, feature: Tensor) -> Tensor:
        return self.classifier(feature)


class BNNeck(nn.BatchNorm1d):
    """Batch norm between metric and identity losses (Luo et al. 2019, "Bag of Tricks"), N,D -> N,D.

    The shift stays at 0 and does not train unless ``frozen_bias`` is False.
    """

    def __init__(self, dim: int, *, frozen_bias: bool = True) -> None:
        super().__init__(dim)
        self.bias.requires_grad_(not frozen_bias)


class NeckClassifier(nn.Module):
    """BNNeck, then a bias-free linear classifier: the identity branch of CLIP-ReID and of strong
    baselines, on a feature taken before batch norm. Keys: ``bottleneck.*``, ``classifier.weight``.
    """

    def __init__(
        self, *, dim: int, classes: int, frozen_bias: bool = True, std: float = 0.001
    ) -> None:
        super().__init__()
        self.bottleneck = BNNeck(dim, frozen_bias=frozen_bias)
        self.classifier = nn.Linear(dim, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=std)

    def forward(self, feature: Tensor) -> Tensor:
        return self.classifier(self.bottleneck(feature))


class Projection(nn.Linear):
    """A linear layer into the space of the texts, N,dim -> N,text_dim: how a trunk without one
    meets rows of a text encoder (pi-VL v1 Table 5, whose student has 1280 channels).
    """

    def __init__(self, *, dim: int, text_dim: int) -> None:
        super().__init__(dim, text_dim)
        self.out_dim = text_dim
