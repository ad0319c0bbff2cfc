"""open_clip's weights by ARCH/TAG: the towers against open_clip's own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from pipeline.terminal.errors import ReidpipeError
from reid_train import load_prompt_classifier
from reid_train.models import is_tag
from reid_train.models.clip import tags
from reid_train.models.clip.architectures import image_sizes, text_sizes
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.visual import resize_positions
from reid_train.models.deployable import build_model
from reid_train.models.pretrained import text_state


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights as open_clip saves them, of whole architectures: a tag's sizes
    are checked.
    """
    folder = tmp_path_factory.mktemp("open_clip")
    for name in ("ViT-B-32", "RN50"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = open_clip.create_model(name, pretrained_text=False)
            for parameter in model.parameters():
                if parameter.ndim < 2:  # norms and biases that change something
                    nn.init.normal_(parameter, mean=float(parameter.mean()), std=0.1)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def fetched(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one function that fetches gives those files."""
    file = "{}.safetensors"
    monkeypatch.setattr(tags, "fetched", lambda tag: small / file.format(tag.architecture))
    return small


def reference(folder: Path, name: str, quick: bool) -> Any:
    model = open_clip.create_model(
        name,
        pretrained=str(folder / f"{name}.safetensors"),
        force_quick_gelu=quick,
    )
    return model.eval()


def spec(trunk: str, size: int = 224, **options: Any) -> dict[str, Any]:
    colours = {"mean": [0.0] * 3, "std": [1.0] * 3}
    return {"trunk": trunk, "options": options, "input_size": [size, size], **colours}


@pytest.mark.parametrize(("tag", "quick"), [("laion2b_s34b_b79k", False), ("laion400m_e32", True)])
def test_a_vit_gives_open_clips_own_features(fetched: Path, tag: str, quick: bool):
    start = f"open_clip:ViT-B-32/{tag}"
    model = build_model(spec("clip-vit-b16", architecture="ViT-B-32"), pretrained=start).eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        projected = model.features(images)["projected"]
        expected = reference(fetched, "ViT-B-32", quick).encode_image(images)
        torch.testing.assert_close(projected, expected, atol=1e-5, rtol=1e-4)
    # What the weights settled is what a model made of the description alone needs.
    again = build_model(
        spec("clip-vit-b16", architecture="ViT-B-32", **model.trunk.settled)  # type: ignore[arg-type]
    ).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.features(images)["projected"], projected)
    assert model.trunk.settled == ({} if quick else {"activation": "gelu"})


def test_a_resnet_gives_open_clips_own_features_but_for_the_surgery(fetched: Path):
    model = build_model(spec("clip-rn50"), pretrained="open_clip:RN50/cc12m").eval()
    theirs = reference(fetched, "RN50", True)
    block = theirs.visual.layer4[0]
    block.avgpool, block.downsample[0] = nn.Identity(), nn.Identity()  # last stride 1, as CLIP-ReID
    pool = theirs.visual.attnpool
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        pool.positional_embedding.data = resize_positions(pool.positional_embedding, (14, 14))
        expected = theirs.encode_image(images)
        projected = model.features(images)["projected"]
    torch.testing.assert_close(projected, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("start", "quick"),
    [("ViT-B-32/laion2b_s34b_b79k", False), ("ViT-B-32/openai", True), ("RN50/openai", True)],
)
def test_a_text_tower_gives_open_clips_own_rows(fetched: Path, start: str, quick: bool):
    name = start.split("/")[0]
    tower = ClipText(architecture=name, pretrained=f"open_clip:{start}", **text_sizes(name)).eval()
    ids = open_clip.tokenize(["a photo of a person", "two dogs on a red boat"])
    with torch.no_grad():
        expected = reference(fetched, name, quick).encode_text(ids)
        torch.testing.assert_close(tower.encode_tokens(ids), expected, atol=1e-5, rtol=1e-4)


def test_classes_are_compared_by_open_clips_own_towers(fetched: Path):
    start, names = "open_clip:ViT-B-32/laion2b_s34b_b79k", ["cat", "dog"]
    model = load_prompt_classifier("zero-shot", clip=start, class_names=names)
    theirs, tag = reference(fetched, "ViT-B-32", False), tags.find_tag(start)
    images = torch.rand(2, 3, 224, 224)
    x = (images - torch.tensor(tag.mean).view(3, 1, 1)) / torch.tensor(tag.std).view(3, 1, 1)
    with torch.no_grad():
        ids = open_clip.tokenize([f"a photo of a {name}." for name in names])
        logits = theirs.get_logits(x, ids)[0]
        torch.testing.assert_close(model(images), logits, atol=1e-4, rtol=1e-3)


def test_a_tag_says_what_it_was_trained_with():
    tag = tags.find_tag("open_clip:ViT-L-14/laion2b_s32b_b82k")
    assert (tag.quick_gelu, tag.mean) == (False, (0.5, 0.5, 0.5))
    assert tags.find_tag("open_clip:ViT-B-16-quickgelu/dfn2b").quick_gelu
    assert is_tag(tag.text) and not any(map(is_tag, ("open_clip:a", "openai", "open_clip:/a")))


@pytest.mark.parametrize(
    ("trunk", "start", "said"),
    [
        ("clip-vit-b16", "ViT-B-61/openai", "did you mean 'ViT-B-16'"),
        ("clip-vit-b16", "ViT-B-16/laion2b_s34b", "did you mean 'laion2b_s34b_b88k'"),
        ("clip-vit-b16", "ViT-L-14/openai", "--set model.options.architecture=ViT-L-14"),
        ("clip-vit-b16", "RN50/openai", "--set model.trunk=clip-rn50"),
        ("clip-rn50", "ViT-B-16/openai", "--set model.trunk=clip-vit-b16"),
        ("clip-vit-b16", "ViT-B-16-SigLIP/webli", "timm"),
        ("clip-vit-b16", "coca_ViT-B-32/laion2b_s13b_b90k", "CoCa"),
        ("tiny", "ViT-B-16/openai", "--pretrained none"),
        ("resnet50", "ViT-B-16/openai", "--pretrained imagenet"),
    ],
)
def test_what_does_not_fit_is_one_line_before_a_download(
    trunk: str, start: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tags, "fetched", lambda tag: pytest.fail("fetched"))
    with pytest.raises(ReidpipeError) as caught:
        build_model(spec(trunk), pretrained=f"open_clip:{start}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # it would try again and again
    with pytest.raises(ReidpipeError) as caught:
        text_state("open_clip:ViT-B-16/laion2b_s34b_b88k", "ViT-B-16")
    line = str(caught.value)
    assert "laion/CLIP-ViT-B-16-laion2B-s34B-b88K" in line and "--pretrained FILE" in line
    assert "\n" not in line


def test_architectures_give_sizes_or_say_why_not():
    sizes = {"width": 1024, "layers": 24, "heads": 16, "patch": 14, "mlp_ratio": 4.0}
    assert image_sizes("ViT-L-14") == {**sizes, "output_dim": 768}
    assert image_sizes("RN50x4")["layers"] == (4, 6, 10, 6)
    assert text_sizes("RN50")["output_dim"] == 1024
    for name, why in (
        ("xlm-roberta-base-ViT-B-32", "Hugging Face"),
        ("ViT-H-14-worldwide", "tokeniser"),
        ("ViT-B-61", "did you mean"),
    ):
        with pytest.raises(ReidpipeError, match=why):
            text_sizes(name)


def test_every_plain_clip_of_open_clip_has_sizes():
    """Those whose towers are not CLIP's own are refused, and those are known by name."""
    plain = []
    for name in dict.fromkeys(pair[0] for pair in open_clip.list_pretrained()):
        try:
            image_sizes(name)
            text_sizes(name)
        except ReidpipeError:
            continue
        plain.append(name)
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14", "RN50x64"} <= set(plain)
    assert len(plain) >= 20
