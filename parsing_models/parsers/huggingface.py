"""Segmentation models in Hugging Face's layout as parsers: SegFormer, UperNet, Mask2Former, ..."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parsing_models.parsers import hub
from parsing_models.parsers.image_processors import LEAST_SIDE, preprocessing
from parsing_models.parsers.interface import MEMORY_MIB, Parser, Preprocessing, rescale
from parsing_models.parsers.label_names import class_table, flip_order, target_set
from parsing_models.parsers.warp import Size
from pipeline.artifacts.atomic import sha256_file
from pipeline.labels.sets import LIP, LabelSet
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.runtime import Runtime

# Those that answer with queries: classes and masks apart.
QUERY_MODELS = ("mask2former", "maskformer", "oneformer", "eomt", "eomt_dinov3")
# Far below any logit, and finite: flips and scales are averaged.
ABSENT = -1e4
SMALLEST = 1e-30


@dataclass
class HuggingFaceParser(Parser):
    """A parser whose network squashes images to its input and speaks of classes of its own.

    The network's output, in its own classes, is resized straight to the grid (bilinear, half-pixel
    centres), as transformers' post-processing does. Then classes become those of the label set:
    ``sources[t]`` are the network's classes that are class t, and soft-max probabilities of classes
    that merge are summed, which is their exact marginal. Flips and scales are averaged after that,
    as logarithms; without merged classes this is the average of logits that other parsers take.

    as_scores: the network's outputs are not logits but class scores >= 0 (``Queries``); they are
    resized as such, so the winner is that of transformers, and the confidence is the winner's share
    of all scores at the pixel, which says nothing of how much of the pixel any query claims.
    resample: ``bilinear`` or ``bicubic``, of images. antialias: of outputs larger than the grid.
    """

    sources: tuple[tuple[int, ...], ...] = ()
    as_scores: bool = False
    resample: str = "bilinear"
    antialias: bool = False

    def attributes(self, *, flip: bool = False, scales: Sequence[float] = (1.0,)) -> dict[str, Any]:
        """As of every parser; the classes are the network's, named in ``network_classes``."""
        found = super().attributes(flip=flip, scales=scales)
        confidence = "largest share of the class scores" if self.as_scores else found["confidence"]
        return {
            **found,
            "warp": f"squashed to the input, {self.resample}, no padding",
            "confidence": confidence,
            "transformers": importlib.metadata.version("transformers"),
        }

    def to_input(self, images: Sequence[np.ndarray]) -> Tensor:
        """Images (RGB) -> normalised N,3,H,W on the device, stretched to the input."""
        given = self.preprocessing
        inputs = torch.empty(len(images), 3, *given.input_size, device=self.device)
        for row, image in enumerate(images):
            pixels = torch.tensor(np.ascontiguousarray(image), device=self.device)
            pixels = pixels.permute(2, 0, 1)[None].float()
            # Image processors resize whole numbers to whole numbers.
            inputs[row] = F.interpolate(
                pixels, given.input_size, mode=self.resample, align_corners=False, antialias=True
            ).round_()[0]
        if given.channel_order == "bgr":
            inputs = inputs.flip(1)
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (given.mean, given.std)
        )
        return (inputs.clamp_(0, 255) / 255).sub_(mean).div_(std)

    def logits(
        self, inputs: Tensor, *, flip: bool = False, scales: Sequence[float] = (1.0,)
    ) -> list[Tensor]:
        """Normalised N,3,H,W -> outputs N,V,C,h,w in the network's classes, one tensor per scale;
        V: the image and, with ``flip``, what became of its mirror image, mirrored back."""
        outputs = []
        for scale in scales:
            x = inputs
            if scale != 1:
                x = rescale(inputs, scale, least=LEAST_SIDE, align_corners=False)
            views = [self.network(x)]
            if flip:
                views.append(self.network(x.flip(-1)).flip(-1))
            outputs.append(torch.stack(views, 1))
        return outputs

    def _at_grid(self, logits: list[Tensor], rows: list[int], image: Size, grid: Size) -> Tensor:  # noqa: ARG002
        known = [number for number, theirs in enumerate(self.sources) if theirs]
        exchanged = torch.from_numpy(flip_order(known, self.label_set)).to(self.device)
        found = []
        for each in logits:
            for number, view in enumerate(each[rows].unbind(1)):
                resized = F.interpolate(
                    view, grid, mode="bilinear", align_corners=False, antialias=self.antialias
                )
                ours = self._in_label_set(resized)
                found.append(ours[:, exchanged] if number else ours)
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    def _in_label_set(self, outputs: Tensor) -> Tensor:
        """Outputs N,C,H,W of the network -> unnormalised log-probabilities of our classes."""
        if self.as_scores:
            outputs = outputs.clamp_min(SMALLEST).log()
        nothing = torch.full_like(outputs[:, 0], ABSENT)
        return torch.stack(
            [
                nothing
                if not theirs
                else outputs[:, theirs[0]]
                if len(theirs) == 1
                else outputs[:, list(theirs)].logsumexp(1)
                for theirs in self.sources
            ],
            1,
        )


class Dense(nn.Module):
    """N,3,H,W -> ``logits`` N,C,h,w of a semantic segmentation model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(pixel_values=inputs).logits


class Queries(nn.Module):
    """N,3,H,W -> class scores N,C,h,w of a model that answers with queries.

    A pixel's score for a class is the sum over queries of (soft-max probability of the class, the
    null class left out) x (sigmoid of the mask): Cheng et al. 2021 (MaskFormer), eq. (2) of the
    semantic inference, as in ``post_process_semantic_segmentation``. mask_size: what Mask2Former
    and EoMT resize the masks to before the sigmoid; None leaves them. task: OneFormer's sentence.
    """

    def __init__(
        self, model: nn.Module, mask_size: Size | None = None, task: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.mask_size = mask_size
        self.task: Tensor | None
        self.register_buffer("task", task, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        more = {} if self.task is None else {"task_inputs": self.task.expand(len(inputs), -1)}
        outputs = self.model(pixel_values=inputs, **more)
        masks = outputs.masks_queries_logits
        if self.mask_size is not None:
            masks = F.interpolate(masks, self.mask_size, mode="bilinear", align_corners=False)
        classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
        return torch.einsum("nqc,nqhw->nchw", classes, masks.sigmoid())


def load_huggingface(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``hf:FOLDER`` and ``hf:OWNER/NAME``.

    options: ``label_set`` (default ``lip``), ``label_map`` ({their name: our name} or a JSON file;
    without it all of the model's names must be known), ``input_size``, ``memory_mib``.
    Raises ``ReidpipeError`` for a model of another task, weights that do not fill the network, or
    a label nobody knows.
    """
    if isinstance(weights, Mapping):
        raise ReidpipeError(
            f"found a state dict for parser '{kind}'; expected a folder or a hub id, which say "
            "what network it is; type hf:FOLDER"
        )
    saved = hub.read(hub.folder_of(kind, weights))
    table = saved.table(options)
    runtime = Runtime.create(device)
    model_type = str(saved.config.get("model_type"))
    model = _pretrained(saved, model_type)
    given, resample = preprocessing(model_type, model.config, saved.processor)
    if "input_size" in options:
        height, width = options["input_size"]
        given = Preprocessing((int(height), int(width)), given.channel_order, given.mean, given.std)
    by_query = model_type in QUERY_MODELS
    network = _queries(saved, model_type, model, given.input_size) if by_query else Dense(model)
    return _parser(
        network.eval().to(runtime.device),
        table,
        target_set(options.get("label_set", LIP)),
        given,
        runtime,
        name=saved.name,
        facts={
            "architecture": type(model).__name__,
            "network_classes": list(saved.labels),
            "files_sha256": {name: sha256_file(path) for name, path in saved.files.items()},
        },
        resample=resample,
        as_scores=by_query,
        antialias=model_type == "oneformer",
        one_size=saved.one_size,
        memory_mib=int(options.get("memory_mib", MEMORY_MIB)),
    )


def load_segformer(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    name: str,
    preprocessing: Preprocessing,
    device: str = "cpu",
    label_set: LabelSet | str = LIP,
    source: str = "state dict",
    facts: Mapping[str, Any] | None = None,
    memory_mib: int = MEMORY_MIB,
) -> Parser:
    """A SegFormer from its configuration (``config.json`` as a dictionary) and weights.

    Labels go by the names in ``id2label``. Raises ``ReidpipeError`` naming the first missing or
    unknown key, or a label nobody knows.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    runtime = Runtime.create(device)
    # transformers' own loading: files keep names that its networks have left behind.
    with _quiet():
        loaded: Any = SegformerForSemanticSegmentation.from_pretrained(
            None,
            config=SegformerConfig.from_dict(dict(config)),
            state_dict=dict(state),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    model, report = loaded
    _check_filled(model, report, source, unknown=True)
    names = _labels(model.config)
    target = target_set(label_set)
    return _parser(
        Dense(model).eval().to(runtime.device),
        class_table(names, target, source=name),
        target,
        preprocessing,
        runtime,
        name=name,
        facts=facts or {},
        memory_mib=memory_mib,
    )


def _labels(config: Any) -> list[str]:
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def _parser(
    network: nn.Module,
    table: Sequence[int],
    target: LabelSet,
    given: Preprocessing,
    runtime: Runtime,
    **more: Any,
) -> HuggingFaceParser:
    sources = tuple(
        tuple(theirs for theirs, ours in enumerate(table) if ours == number)
        for number in range(len(target))
    )
    return HuggingFaceParser(
        network=network,
        label_set=target,
        preprocessing=given,
        device=runtime.device,
        align_corners=False,
        sources=sources,
        **more,
    )


def _pretrained(saved: hub.Saved, model_type: str) -> Any:
    """The model of a folder in float32; every weight must come from its files."""
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as DENSE_MODELS,
    )

    if model_type not in DENSE_MODELS and model_type not in QUERY_MODELS:
        known = sorted((*DENSE_MODELS, *QUERY_MODELS))
        raise ReidpipeError(
            f"found a model of type '{model_type}' in {saved.folder}; expected a segmentation "
            f"model: {', '.join(known)}; type --model hf: with the folder or id of one"
        )
    by_query = model_type in QUERY_MODELS
    factory = AutoModelForUniversalSegmentation if by_query else AutoModelForSemanticSegmentation
    saved.check_sizes()
    with _quiet():
        try:
            model, report = factory.from_pretrained(
                saved.folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:
            # transformers raises whatever it stumbles over in files that are not what it wrote.
            raise ReidpipeError(
                f"found a model in {saved.folder} that transformers cannot read "
                f"({' '.join(str(error).split())[:160]}); expected what save_pretrained writes; "
                "copy the model again"
            ) from error
    _check_filled(model, report, str(saved.folder))
    return model


def _check_filled(
    model: nn.Module, report: Mapping[str, Any], source: str, *, unknown: bool = False
) -> None:
    """Raise ``ReidpipeError`` when transformers made up weights that its file did not give, or,
    with ``unknown``, when the file gives others."""
    others = sorted(report["unexpected_keys"])
    lacking = report["missing_keys"] or report["mismatched_keys"]
    also = f" and {len(others)} unknown, first '{others[0]}'" if others and lacking else ""
    wrong = {
        "missing": sorted(report["missing_keys"]),
        "of another shape": sorted(str(each[0]) for each in report["mismatched_keys"]),
        "unknown": others if unknown else [],
    }
    for what, keys in wrong.items():
        if keys:
            raise ReidpipeError(
                f"found {len(keys)} weights {what} in {source}, first '{keys[0]}'{also}; expected "
                f"all of {type(model).__name__}; give a model that was trained for parsing"
            )


def _queries(saved: hub.Saved, model_type: str, model: nn.Module, size: Size) -> Queries:
    if model_type == "mask2former":
        return Queries(model, mask_size=(384, 384))
    if model_type.startswith("eomt"):
        return Queries(model, mask_size=size)
    if model_type == "oneformer":
        return Queries(model, task=_task(saved, int(getattr(model.config, "task_seq_len", 77))))
    return Queries(model)


def _task(saved: hub.Saved, length: int) -> Tensor:
    """OneFormer's sentence for semantic segmentation as tokens 1,length, zero where padded."""
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(saved.folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ReidpipeError(
            f"found no tokenizer of OneFormer in {saved.folder}; expected vocab.json and "
            "merges.txt beside its weights; copy the whole model"
        ) from error
    tokens = tokenizer(
        "the task is semantic",
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    return tokens["input_ids"] * tokens["attention_mask"]


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers neither draws bars nor reports while it loads; what it found is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
