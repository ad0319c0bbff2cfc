"""The shipped recipes of CLIP's ResNet-50 on towers small enough to be followed in float64."""

from __future__ import annotations

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from reid_train.engine.runtime import Runtime
from reid_train.models.prompts import IdentityTexts
from reid_train.recipe.schema import Recipe
from reid_train.recipe.texts import build_texts
from tests.reid_train.plain.clip import text
from tests.reid_train.plain.updates import Named

SIZE = (64, 32)
IMAGE_HEADS, TEXT_HEADS = 4, 2
SETTINGS = {
    "input.size": str(list(SIZE)),
    "model.options": f"{{width: 8, heads: {IMAGE_HEADS}, layers: [1, 1, 2, 1]}}",
    "model.text.options": f"{{width: 32, heads: {TEXT_HEADS}, layers: 2}}",
}
# ImageNet's, as CLIP-ReID has them for the ResNet.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scatter(module: nn.Module, seed: int) -> None:
    """Weights and running figures of which every one matters: fresh ones are 0 here and there."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point() or name.endswith(("mean", "std")) and value.ndim == 4:
                continue
            noise = torch.randn(value.shape, generator=generator)
            if "running_var" in name:
                value.copy_(1 + 0.5 * torch.rand(value.shape, generator=generator))
            elif value.ndim < 2:
                value.copy_((0.0 if "bias" in name or "running" in name else 1.0) + 0.2 * noise)
            elif "embedding" not in name:
                value.copy_(noise / value[0].numel() ** 0.5)


def small_texts(recipe: Recipe, people: int, runtime: Runtime) -> IdentityTexts:
    """The recipe's text side, before training."""
    assert recipe.model.text is not None
    torch.manual_seed(2)
    texts = build_texts(recipe.model.text, classes=people, pretrained="none")
    scatter(texts.text_encoder, 3)
    texts.prompt_learner.refresh(texts.text_encoder)
    runtime.place(texts)
    return texts


def normalised(pixels: Tensor) -> Tensor:
    """uint8 N,3,H,W -> float64."""
    shift, scale = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    return (pixels.double() / 255 - shift) / scale


def prompt_rows(tower: Named, vectors: Tensor, sentence: str) -> Tensor:
    """Rows of a sentence whose four X's are replaced: vectors N,4,width -> N,D. All 77 positions
    are computed, the row is that of the end token.
    """
    ids = [49406, *SimpleTokenizer().encode(sentence), 49407]
    end = len(ids) - 1
    words = tower["token_embedding.weight"][torch.tensor(ids + [0] * (77 - len(ids)))]
    assert ids[5:9] == [343] * 4  # "x"
    words = words.expand(len(vectors), -1, -1)
    embedded = torch.cat([words[:, :5], vectors, words[:, 9:]], 1)
    return text(tower, embedded, torch.full((len(vectors),), end), heads=TEXT_HEADS)
