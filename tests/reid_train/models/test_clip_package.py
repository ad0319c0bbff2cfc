"""open_clip's modules without its package: what a process loads, and that they are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_train.models.clip.architectures import image_sizes, quick_gelu, text_sizes
from reid_train.models.clip.package import postpone
from reid_train.models.prompts import tokenise

LATER = (
    "import json, sys\n"
    "from reid_train.models.clip.trunks import clip_tiny_resnet\n"
    "from reid_train.models.prompts import tokenise\n"
    "clip_tiny_resnet(input_size=(32, 16)); ids = tokenise(['a photo of a person']).tolist()\n"
    "whole = ('timm', 'transformers', 'torchvision.models', 'torchvision.transforms',\n"
    "         'open_clip.factory')\n"
    "loaded = [name for name in whole if name in sys.modules]\n"
    "from reid_train.models.clip.package import VisionTransformer\n"
    "import open_clip, torchvision\n"
    "same = open_clip.transformer.VisionTransformer is VisionTransformer\n"
    "found = [callable(open_clip.create_model), callable(torchvision.ops.nms), same,\n"
    "         'open_clip.factory' in sys.modules, type(open_clip).__name__,\n"
    "         hasattr(open_clip, 'no')]\n"
    "print(json.dumps([ids, loaded, found]))\n"
)


@pytest.mark.slow
def test_towers_and_tokens_load_nothing_else_and_the_package_comes_when_it_is_asked_for():
    told = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True)
    ids, loaded, found = json.loads(told.stdout)
    assert loaded == []
    assert found == [True, True, True, True, "module", False]
    assert ids == open_clip.tokenize(["a photo of a person"]).tolist()


@given(st.text(max_size=40))
def test_tokens_are_open_clips(text: str):
    assert tokenise([text], context=400).tolist() == open_clip.tokenize([text], 400).tolist()


def test_sizes_come_from_the_configurations_that_open_clip_reads():
    for name in ("RN50", "ViT-B-16", "ViT-B-16-quickgelu", "ViT-L-14"):
        config = open_clip.get_model_config(name)
        assert config is not None
        assert image_sizes(name)["output_dim"] == config["embed_dim"]
        assert text_sizes(name)["width"] == config["text_cfg"]["width"]
        assert quick_gelu(name) == config.get("quick_gelu", False)


def test_an_added_architecture_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from open_clip import factory

    config = {**(open_clip.get_model_config("RN50") or {}), "embed_dim": 17}
    (tmp_path / "Mine-1.json").write_text(json.dumps(config))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    open_clip.add_model_config(tmp_path)
    assert image_sizes("Mine-1")["output_dim"] == 17


def test_what_is_loaded_or_not_installed_stays():
    before = sys.modules["open_clip"]
    postpone("open_clip")
    postpone("reidpipe_no_such_package")
    assert sys.modules["open_clip"] is before and "reidpipe_no_such_package" not in sys.modules
