"""CLIP files and learners' files into classifiers by class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import FLAG, POSITIVE, TEXT, WHOLE, Option, check_option
from reid_train.engine.checkpoint import load_strict, read_state_dict, shape_of, unwrap
from reid_train.engine.runtime import Runtime
from reid_train.models.clip.classifier import ClipClassifier, CoCoOp, CoOp, Maple, ZeroShot
from reid_train.models.clip.package import VisionTransformer
from reid_train.models.clip.tags import tag_of
from reid_train.models.clip.towers import Towers, clip_state, clip_towers
from reid_train.models.learners import PHOTO, CoCoOpLearner, CoOpLearner, word_prompts
from reid_train.models.maple import MapleLearner

Source = str | Path | Mapping[str, Any]


def _or_none(option: Option) -> Option:
    return Option(f"{option.wanted}, or None", lambda value: value is None or option.fits(value))


_TOWERS = {
    **dict.fromkeys(("image_heads", "text_heads"), _or_none(POSITIVE)),
    "text_batch": POSITIVE,
}
_SENTENCES = Option(
    "a sentence, or several",
    lambda value: (
        TEXT.fits(value)
        or (isinstance(value, list | tuple) and bool(value) and all(map(TEXT.fits, value)))
    ),
)
_SEED = Option(
    "a whole number from 0 to 2^63", lambda value: WHOLE.fits(value) and 0 <= value < 2**63
)
_LEARNT = {
    "template": _or_none(Option("a sentence", TEXT.fits)),
    "n_ctx": _or_none(POSITIVE),
    "seed": _SEED,
    **_TOWERS,
}
OPTIONS: dict[str, dict[str, Option]] = {
    "zero-shot": {"template": _SENTENCES, **_TOWERS},
    "coop": {**_LEARNT, "position": TEXT, "class_specific": _or_none(FLAG)},
    "cocoop": {**_LEARNT, "position": TEXT},
    "maple": {**_LEARNT, "depth": _or_none(POSITIVE)},
}
_N_CTX = {"coop": 16, "cocoop": 4, "maple": 2}  # the authors' settings
_DEPTH = 9
_PREFIX = "prompt_learner."
# the authors' whole-model files -> CLIP's own names
_ENCODERS = {"image_encoder.": "visual.", "text_encoder.": "", "logit_scale": "logit_scale"}


def load_prompt_classifier(
    kind: str,
    *,
    clip: Source,
    learner: Source | None = None,
    class_names: Sequence[str],
    device: str | torch.device = "cpu",
    **options: Any,
) -> ClipClassifier:
    """A classifier by class name in eval mode on ``device``: images N,3,224,224 float RGB in 0..1
    (or N,3,*input_size of a smaller CLIP) -> logits N,C, C the length of ``class_names``.

    ``kind``: ``zero-shot``, ``coop``, ``cocoop`` or ``maple``. ``clip``: a CLIP with a ViT in
    OpenAI's layout, "openai", "open_clip:ARCH/TAG", a file or a state dict; all sizes are read off
    the shapes. Or "clip-tiny-vit" or "clip-tiny" (images N,3,128,64), whose ResNet maple cannot
    enter.
    ``learner``: the learner's file or state dict, keys with or without ``prompt_learner.``; its
    shapes give number of vectors, class-specific or not, and depth; token_prefix and token_suffix
    are ignored. A whole-model file's encoders must equal ``clip``. None: untrained, to be trained;
    only ``prompt_learner`` has parameters with gradients. Options:

    - ``template``: a sentence with "{}" for the name. zero-shot: "a photo of a {}." (or a list:
      the mean of its normalised rows). Learners: the vectors replace its first words, and start as
      them when untrained; None: placeholder X's, vectors from N(0, 0.02^2). coop, cocoop: None;
      maple: "a photo of a {}.", or None where the learner has more vectors than that has words;
    - ``position`` of the name: "end", "middle" or "front" (coop);
    - for an untrained learner ``n_ctx`` (the words before the name of a template; else coop 16,
      cocoop 4; maple 2), ``class_specific`` (False), ``depth`` (maple, 9), ``seed`` (0);
    - ``text_batch``: prompts computed at a time; ``image_heads``, ``text_heads``: attention heads,
      which no shape tells (width / 64).

    Raises :class:`ReidpipeError` for unknown kinds and options, weights that do not fit and names
    that are none.
    """
    _check_options(kind, options)
    if kind == "zero-shot" and learner is not None:
        raise ReidpipeError(
            "found a learner for zero-shot, which has none; expected learner=None; type "
            "kind='coop', 'cocoop' or 'maple'"
        )
    target = Runtime.create(device).device
    weights, source = clip_state(clip)
    # constructors draw from torch's generator, also where a file then overwrites what they drew
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.get("seed", 0))
        heads = {name: options.get(name) for name in ("image_heads", "text_heads")}
        tag = tag_of(clip) if isinstance(clip, str) else None
        towers = clip_towers(weights, source, tag=tag, **heads)
        if kind == "maple" and not isinstance(towers.image, VisionTransformer):
            raise ReidpipeError(
                f"found a ResNet in {source} and maple, whose vectors enter the blocks of a ViT; "
                "expected a CLIP with a ViT; give ViT-B-16.pt, or take coop or cocoop"
            )
        if kind == "zero-shot":
            model = _zero_shot(towers, class_names, options)
        elif learner is None:
            model = _untrained(kind, towers, class_names, options)
        else:
            state, name = _learner_state(learner, weights)
            model = _trained(kind, towers, state, name, class_names, options)
    return model.to(target).eval()


def count_learner(
    kind: str,
    *,
    n_ctx: int | None = None,
    depth: int = _DEPTH,
    classes: int | None = None,
    width: int = 512,
    image_width: int = 768,
    dim: int = 512,
) -> int:
    """Numbers a learner trains on a CLIP of these text, image and joint widths (ViT-B/16's are the
    defaults); ``classes`` for class-specific vectors, ``depth`` for maple. 0 for zero-shot.
    """
    if kind == "zero-shot":
        return 0
    if kind not in OPTIONS:
        raise _unknown_kind(kind)
    sizes: dict[str, Any] = {"n_ctx": n_ctx or _N_CTX[kind]}
    if kind == "coop":
        sizes["classes"] = classes
    if kind == "maple":
        sizes["depth"] = depth
    with torch.device("meta"):
        learner = _new_learner(kind, width=width, image_width=image_width, dim=dim, **sizes)
    return sum(p.numel() for p in learner.parameters())


def _unknown_kind(kind: str) -> ReidpipeError:
    return ReidpipeError(
        f"found kind '{kind}'{nearest(kind, OPTIONS)}; expected one of {', '.join(OPTIONS)}; "
        "type kind='zero-shot'"
    )


def _check_options(kind: str, options: Mapping[str, Any]) -> None:
    if kind not in OPTIONS:
        raise _unknown_kind(kind)
    for name, value in options.items():
        check_option(name, value, OPTIONS[kind], of=kind)
    if kind == "cocoop" and options.get("position", "end") != "end":
        raise ReidpipeError(
            f"found position '{options['position']}' for cocoop; expected 'end', the only one it "
            "has; leave it out"
        )


def _learner_state(learner: Source, clip: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The learner's own tensors, float32, without ``prompt_learner.``, and the
    name of where they are from.

    Raises ReidpipeError when a whole-model file brings encoders that are not ``clip``'s: vectors
    mean nothing in another space.
    """
    if isinstance(learner, Mapping):
        state, source = unwrap(learner), "learner"
    else:
        state, source = read_state_dict(learner), str(learner)
    if any(key.startswith(_PREFIX) for key in state):
        for key, value in state.items():
            if not key.startswith(_PREFIX):
                _check_encoder(key, value, clip, source)
        state = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    context = state.get("ctx")
    if context is None or context.ndim not in (2, 3):
        found = "no 'ctx'" if context is None else f"'ctx' of {context.ndim} dimensions"
        raise ReidpipeError(
            f"found {found} in {source}; expected a prompt learner's n_ctx,width or "
            "classes,n_ctx,width; give the file its training wrote"
        )
    return {key: value.float() for key, value in state.items()}, source


def _check_encoder(key: str, value: Tensor, clip: Mapping[str, Tensor], source: str) -> None:
    old = next((old for old in _ENCODERS if key.startswith(old)), None)
    own = None if old is None else clip.get(_ENCODERS[old] + key.removeprefix(old))
    if old == "logit_scale":
        own = clip["logit_scale"]
    # saved in half precision by the authors' default settings
    if (
        own is None
        or own.shape != value.shape
        or not torch.allclose(value.float(), own.float(), rtol=1e-3, atol=1e-6)
    ):
        raise ReidpipeError(
            f"found '{key}' in {source}, which is not the given CLIP's; expected the CLIP the "
            "learner was trained on; give that one, or the prompt_learner.* entries alone"
        )


Learner = CoOpLearner | CoCoOpLearner | MapleLearner


def _new_learner(kind: str, *, width: int, image_width: int, dim: int, **sizes: Any) -> Learner:
    if kind == "coop":
        return CoOpLearner(width=width, **sizes)
    if kind == "cocoop":
        return CoCoOpLearner(width=width, dim=dim, **sizes)
    return MapleLearner(width=width, image_width=image_width, **sizes)


def _widths(towers: Towers) -> dict[str, int]:
    image = towers.image
    return {
        "width": towers.text.token_embedding.weight.shape[1],
        "image_width": image.conv1.out_channels if isinstance(image, VisionTransformer) else 0,
        "dim": image.output_dim,
    }


def _zero_shot(towers: Towers, class_names: Sequence[str], options: Mapping[str, Any]) -> ZeroShot:
    template = options.get("template", PHOTO)
    templates = (template,) if isinstance(template, str) else tuple(template)
    return ZeroShot(towers, class_names, templates=templates, **_batch(options))


def _template(kind: str, n_ctx: int | None, options: Mapping[str, Any]) -> str | None:
    """The sentence a learner's vectors stand in, or None for placeholders."""
    if "template" in options or kind != "maple":
        return options.get("template")
    # the authors' too: words only where they are enough for all vectors
    return PHOTO if n_ctx is None or n_ctx <= len(PHOTO.split("{}")[0].split()) else None


def _untrained(
    kind: str, towers: Towers, class_names: Sequence[str], options: Mapping[str, Any]
) -> ClipClassifier:
    n_ctx = options.get("n_ctx")
    template = _template(kind, n_ctx, options)
    if n_ctx is None and template is not None and kind != "maple":
        n_ctx = word_prompts(class_names, template=template).start - 1
    sizes: dict[str, Any] = {"n_ctx": _N_CTX[kind] if n_ctx is None else n_ctx}
    if kind == "maple":
        sizes["depth"] = options.get("depth", _DEPTH)
    if options.get("class_specific"):
        if template is not None:
            raise ReidpipeError(
                f"found class-specific vectors that start as the words of '{template}'; expected "
                "random ones, as words make all classes alike; leave template out"
            )
        sizes["classes"] = len(class_names)
    learner = _new_learner(kind, **_widths(towers), **sizes)
    model = _assemble(kind, towers, learner, class_names, template, options)
    if template is not None:
        with torch.no_grad():
            words = model.ids[0, 1 : 1 + sizes["n_ctx"]]
            learner.ctx.copy_(towers.text.token_embedding(words))
    return model


def _trained(
    kind: str,
    towers: Towers,
    state: Mapping[str, Tensor],
    source: str,
    class_names: Sequence[str],
    options: Mapping[str, Any],
) -> ClipClassifier:
    context = state["ctx"]
    if context.ndim not in (2, 3):
        raise ReidpipeError(
            f"found ctx of shape {tuple(context.shape)} in {source}; expected vectors (n, D), or "
            "(classes, n, D); give a file that is whole"
        )
    sizes: dict[str, Any] = {"n_ctx": context.shape[-2]}
    if kind == "coop":
        sizes["classes"] = len(context) if context.ndim == 3 else None
    if kind == "cocoop" and "meta_net.linear1.weight" in state:
        sizes["hidden"] = shape_of(state, "meta_net.linear1.weight", source, 2)[0]
    if kind == "maple":
        sizes["depth"] = 1 + sum(key.startswith("compound_prompts_text.") for key in state)
    found = {**sizes, "class_specific": sizes.get("classes") is not None}
    for name in ("n_ctx", "depth", "class_specific"):
        if options.get(name) not in (None, found.get(name)):
            raise ReidpipeError(
                f"found {name}={options[name]} and a learner with {found[name]} in {source}; "
                f"expected what the file says; leave {name} out"
            )
    learner = _new_learner(kind, **_widths(towers), **sizes)
    load_strict(learner, state, source=source)
    template = _template(kind, sizes["n_ctx"], options)
    return _assemble(kind, towers, learner, class_names, template, options)


def _assemble(
    kind: str,
    towers: Towers,
    learner: Any,
    class_names: Sequence[str],
    template: str | None,
    options: Mapping[str, Any],
) -> CoOp | CoCoOp | Maple:
    if isinstance(learner, MapleLearner):
        blocks = [len(tower.transformer.resblocks) for tower in (towers.image, towers.text)]
        if learner.depth > min(blocks):
            raise ReidpipeError(
                f"found prompts for {learner.depth} blocks and towers of {blocks[0]} and "
                f"{blocks[1]}; expected no more than either has; give another depth or CLIP"
            )
    chosen: dict[str, Any] = {"template": template, **_batch(options)}
    if kind == "coop":
        return CoOp(towers, learner, class_names, position=options.get("position", "end"), **chosen)
    if kind == "cocoop":
        return CoCoOp(towers, learner, class_names, **chosen)
    return Maple(towers, learner, class_names, **chosen)


def _batch(options: Mapping[str, Any]) -> dict[str, int]:
    return {"text_batch": options["text_batch"]} if "text_batch" in options else {}
