"""OpenAI's archives: opened only when their bytes are the published ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.artifacts.atomic import sha256_file
from pipeline.terminal.errors import ReidpipeError
from reid_train.models import pretrained
from reid_train.models.clip.visual import ClipVit
from reid_train.models.deployable import build_model

SMALL: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "output_dim": 8, "patch": 16}


def _square(**options):
    torch.manual_seed(0)
    trunk = ClipVit(input_size=(64, 64), **SMALL, **options)
    return {f"visual.{k}": v.clone() for k, v in trunk.image_encoder.state_dict().items()}


class _Archive(nn.Module):
    """A module whose state dict has the given keys, as OpenAI's scripted models have."""

    def __init__(self, state):
        super().__init__()
        for key, value in state.items():
            *path, last = key.split(".")
            module = self
            for name in path:
                if not hasattr(module, name):
                    module.add_module(name, nn.Module())
                module = module.get_submodule(name)
            module.register_buffer(last, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def archive(tmp_path, monkeypatch):
    state = {key: value.half() for key, value in _square().items()}
    state["input_resolution"] = torch.tensor(64)
    file = tmp_path / "ViT-B-16.pt"
    torch.jit.script(_Archive(state)).save(str(file))
    digest = sha256_file(file)
    monkeypatch.setattr(
        pretrained, "published", lambda _: ("https://example.org/x/ViT-B-16.pt", digest)
    )
    return file, state


def test_published_addresses_carry_their_digest():
    url, digest = pretrained.published("ViT-B-16")
    assert url.startswith("https://openaipublic") and url.endswith("/ViT-B-16.pt")
    assert digest.startswith("5806e77c") and len(digest) == 64
    assert pretrained.published("RN50")[1].startswith("afeb0e10")


def test_archive_with_the_published_digest_loads_as_float32(archive):
    file, state = archive
    read = pretrained.read_clip("openai", "ViT-B-16", weights=file.parent)
    assert "input_resolution" not in read
    assert all(value.dtype == torch.float32 for value in read.values())
    torch.testing.assert_close(read["visual.proj"], state["visual.proj"].float())
    trunk = ClipVit(input_size=(64, 32), pretrained="openai", weights=file.parent, **SMALL)
    assert trunk.image_encoder.positional_embedding.shape == (1 + 4 * 2, 16)
    torch.testing.assert_close(
        trunk.image_encoder.get_parameter("proj").detach(), state["visual.proj"].float()
    )


def test_other_bytes_are_refused(archive):
    file, _ = archive
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ReidpipeError, match="sha256"):
        pretrained.read_clip("openai", "ViT-B-16", weights=file.parent)


def test_missing_file_names_address_and_digest(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    with pytest.raises(ReidpipeError, match=r"openaipublic.*afeb0e10.*pretrained none"):
        pretrained.read_clip("openai", "RN50", weights=tmp_path)
    with pytest.raises(ReidpipeError, match="nothing"):
        pretrained.read_clip(tmp_path / "nothing.pt", "RN50")


def test_plain_state_dict_in_the_same_layout_is_accepted(tmp_path):
    file = tmp_path / "clip.pt"
    state = _square()
    torch.save(state, file)
    trunk = ClipVit(input_size=(64, 64), pretrained=str(file), **SMALL)
    for key, value in trunk.image_encoder.state_dict().items():
        torch.testing.assert_close(value, state[f"visual.{key}"])
    torch.save({"conv1.weight": torch.zeros(2)}, file)
    with pytest.raises(ReidpipeError, match="visual"):
        ClipVit(input_size=(64, 64), pretrained=str(file), **SMALL)
    torch.save({key: value for key, value in state.items() if "ln_post.bias" not in key}, file)
    with pytest.raises(ReidpipeError, match="ln_post.bias"):
        ClipVit(input_size=(64, 64), pretrained=str(file), **SMALL)


def test_trunks_without_published_weights_say_so():
    spec = {"trunk": "tiny", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [128, 64]}
    with pytest.raises(ReidpipeError, match="'tiny'.*--pretrained none"):
        build_model(spec, pretrained="openai")
