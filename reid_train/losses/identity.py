"""Cross-entropy over identities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full


class CrossEntropy(nn.Module):
    """Mean cross-entropy of logits N,C against labels N (int64), computed in float32.

    With ``label_smoothing`` e the target is (1 - e) onehot + e/C (Szegedy et al. 2016): the right
    class gets e/C too, as CLIP-ReID has it.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be in 0..1")
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(full(input), labels, label_smoothing=self.label_smoothing)
