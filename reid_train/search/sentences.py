"""Sentences into the space where CLIP's image and text features meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.epochs import trained
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.compared import outputs
from reid_train.evaluation.similarity import similarity
from reid_train.models import is_tag
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.prompts import tokenise
from reid_train.recipe import schema
from reid_train.recipe.texts import build_texts
from reid_train.search.encoder import Encoder

PROJECTED = "projected"  # a CLIP trunk's output in the space of its texts


def encode_sentences(
    spec: schema.Text,
    sentences: Sequence[str],
    *,
    pretrained: str,
    weights: Path | None = None,
) -> np.ndarray:
    """Sentences -> float32 (N, D) by the frozen text tower of ``spec``, not normalised.

    pretrained: "openai", "open_clip:ARCH/TAG" or a CLIP file; weights: folder of downloads. Raises
    ReidpipeError for a sentence that does not fit CLIP's 77 tokens.
    """
    tower = build_texts(spec, classes=1, pretrained=pretrained, weights=weights).text_encoder.eval()
    with torch.no_grad():
        return tower.encode_tokens(tokenise(sentences, context=tower.context_length)).numpy()


def sentence_similarity(
    run: Run, encode: Encoder, image: Path, sentence: str, *, weights: Path
) -> float:
    """Cosine of an image and a sentence where CLIP's two towers meet.

    encode: of the run's feature ``PROJECTED``, called once all else is known to be there. weights:
    folder of downloads. Raises ReidpipeError for a run without a text side, for a student, and for
    one whose text tower's weights are gone.
    """
    text, recipe = trained(run.model).inputs.get("text"), run.model.params["recipe"]
    if text is None:
        raise ReidpipeError(
            f"found no image {sentence} and no text side in run '{run.name}'; expected an image, "
            "or a run of a recipe with CLIP's text tower; type the path of an image"
        )
    if PROJECTED not in outputs(recipe):
        trunk = recipe["model"]["trunk"]
        raise ReidpipeError(
            f"found run '{run.name}', a student whose trunk {trunk} is not CLIP's: what led its "
            "features to its teacher's texts belonged to its training; expected a run whose own "
            "trunk is CLIP's; type the path of an image, or a run of such as clip-reid-tiny"
        )
    spec = schema.Text.model_validate(text.params["text"])
    pretrained = _text_weights(run, text)
    features = encode([image])[0]
    rows = encode_sentences(spec, [sentence], pretrained=pretrained, weights=weights)
    return similarity(features[0], rows[0])


def _text_weights(run: Run, text: Step) -> str:
    """The weights of the text tower a run stood on: ``openai``, ``open_clip:ARCH/TAG`` or a file,
    which must be there. text: the step of its rows, which a run that goes on from another shares.
    """
    start = text.params["pretrained"]
    if start == "openai" or is_tag(start):
        return start
    if start == "file":
        file, digest = text.files["pretrained"], text.weights["pretrained"]
        for path in (Path(file), *clip_tiny.FILES.values()):
            if path.is_file() and sha256_file(path) == digest:
                return str(path)
        raise ReidpipeError(
            f"found no {file} with SHA-256 {digest[:12]}..., which run '{run.name}' started from; "
            "expected it for the text tower; put the file back"
        )
    raise ReidpipeError(
        f"found a text tower of random numbers in run '{run.name}' (pretrained {start}); expected "
        "CLIP's; type reidpipe train with --pretrained openai or a file"
    )
