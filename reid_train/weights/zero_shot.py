"""What a small CLIP knows about people it has never seen, asked in words alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipeline.mannequins import DEFAULTS, Identity, draw, identity, plan
from pipeline.mannequins.identities import COLOURS, UPPER_TYPES
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny.sizes import INPUT
from reid_train.models.clip.towers import Towers, clip_state, clip_towers
from reid_train.models.prompts import tokenise

RANKS = (1, 5, 10)
PROTOCOL = (
    "mannequins, seed 0, splits query and gallery together (people, scenes and cameras of another "
    "world than the training's), 256x128 images resized to 128x64 bilinearly, no fine-tuning. "
    "recall@k: share of the people's captions with an image of that person among the k most "
    "similar of all images (cosine). upper_colour: share of images whose most similar prompt names "
    "the person's colour, of 17; each prompt is the mean over 5 garments of 'A photo of a person "
    "wearing a COLOUR GARMENT.', coats over it not excluded. hat: 'A photo of a person wearing a "
    "hat.' against '... no hat.', balanced is the mean of both classes' accuracies"
)


def score(weights: Path, people: int | None = None) -> dict[str, Any]:
    """Scores of a file of clip-tiny or clip-tiny-vit on the default dataset's test people, or on
    the first ``people`` of them.
    """
    towers = clip_towers(*clip_state(weights))
    text = towers.text.eval()
    entries = [entry for entry in plan(DEFAULTS, Path()) if entry.split != "train"]
    pids = sorted({entry.pid for entry in entries})[:people]
    entries = [entry for entry in entries if entry.pid in pids]
    shown = torch.from_numpy(np.stack([_image(entry) for entry in entries]))
    with torch.inference_mode():
        rows = _image_rows(towers, shown)
        who = [identity(DEFAULTS["seed"], pid) for pid in pids]
        found = _text_rows(text, [person.caption for person in who]) @ rows.T  # people,N
        of = torch.tensor([pids.index(entry.pid) for entry in entries])
        return {
            "captions": len(pids),
            "images": len(entries),
            "recall": recall(found, of),
            "upper_colour": _upper_colour(text, rows, [who[i] for i in of]),
            **_hat(text, rows, [who[i] for i in of]),
            "protocol": PROTOCOL,
        }


def recall(scores: Tensor, of: Tensor) -> dict[str, float]:
    """Similarities of captions and images C,N; ``of`` int64 N, the caption of each image -> share
    of captions with one of their images among the first k, by k.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    right = of[order] == torch.arange(len(scores))[:, None]
    return {str(k): float(right[:, :k].any(dim=1).float().mean()) for k in RANKS}


def _image(entry: Any) -> np.ndarray:
    figure = draw(entry.seed, entry.pid, entry.camera, entry.index, entry.size)
    height, width = INPUT
    small = Image.fromarray(figure.image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small)


def _image_rows(towers: Towers, images: Tensor) -> Tensor:
    tower = towers.image.eval()
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (towers.mean, towers.std))
    batches = images.permute(0, 3, 1, 2).split(64)
    parts = [tower((batch.float() / 255 - mean) / std) for batch in batches]
    return F.normalize(torch.cat(parts), dim=1)


def _text_rows(tower: ClipText, texts: Sequence[str]) -> Tensor:
    return F.normalize(tower.encode_tokens(tokenise(texts)), dim=1)


def _upper_colour(text: ClipText, rows: Tensor, who: Sequence[Identity]) -> float:
    prompts = []
    for colour in COLOURS:
        article = "an" if colour[0] in "aeiou" else "a"
        told = [f"A photo of a person wearing {article} {colour} {kind}." for kind in UPPER_TYPES]
        prompts.append(_text_rows(text, told).mean(0))
    named = (rows @ F.normalize(torch.stack(prompts), dim=1).T).argmax(1).tolist()
    colours = list(COLOURS)
    right = [colours[i] == p.upper_colour for i, p in zip(named, who, strict=True)]
    return float(np.mean(right))


def _hat(text: ClipText, rows: Tensor, who: Sequence[Identity]) -> dict[str, float]:
    asked = [f"A photo of a person wearing {words} hat." for words in ("no", "a")]
    said = (rows @ _text_rows(text, asked).T).argmax(1).numpy() == 1
    truth = np.array([p.hat != "none" for p in who])
    classes = [(said == truth)[truth == value] for value in (False, True) if (truth == value).any()]
    return {
        "hat": float((said == truth).mean()),
        "hat_balanced": float(np.mean([group.mean() for group in classes])),
        "hat_share": float(truth.mean()),
    }
