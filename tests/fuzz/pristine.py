"""Small whole files of every kind, made by the commands themselves, for inputs to damage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUN, PARTS = "baseline-tiny", "pi-vl-tiny"
DATASET = "folder"
CPU = ("--device", "cpu")
SMALL: dict[str, Any] = {
    "identities": {"train": 4, "test": 4},
    "cameras": 2,
    "images": 2,
    "size": [64, 32],
}
SHORT = (
    "--set", "input.size=[32,16]", "--set", "stages.0.epochs=2",
    "--set", "stages.0.data.ids=2", "--set", "stages.0.data.images_per_id=2",
)  # fmt: skip
SHORT_PARTS = (
    "--set", "stages.0.epochs=1", "--set", "stages.1.epochs=1", "--set", "stages.2.epochs=1",
    "--set", "stages.2.data.ids=2", "--set", "stages.2.data.images_per_id=2",
)  # fmt: skip
TRAIN = ("train", RUN, "--dataset", DATASET, *SHORT, *CPU)
TRAIN_PARTS = ("train", PARTS, "--dataset", DATASET, *SHORT_PARTS, *CPU)
EVAL = ("eval", RUN, "--json", *CPU)


def build(folder: Path) -> dict[str, str]:
    """Fill ``folder``: people, workspace, gallery, hf, files. Returns what ``EVAL`` prints."""
    from tests.fuzz.harness import typed

    workspace, people = folder / "workspace", folder / "people"

    def command(*words: str | Path) -> str:
        code, out, err, trace = typed(workspace, [str(word) for word in words])
        if code or trace:
            raise RuntimeError(f"{words}: {err}{trace}")
        return out

    _people(people)
    command("prepare", DATASET, "--root", people, "--size", "32x16", "--filter", "bilinear")
    with _states_kept(folder / "files" / "state.pt"):
        command(*TRAIN, "--eval-every", "1", "--eval-on", DATASET, "--keep", "1")
    command(*TRAIN_PARTS)
    told = command(*EVAL)
    command("report", PARTS, *CPU)
    command("figure", "activations", RUN, "--out", folder / "a.svg", *CPU)
    command("embed", RUN, people / "images" / "gallery", "--out", folder / "gallery", *CPU)
    _weights(folder / "files")
    _segformer(folder / "hf")
    (folder / "eval.json").write_text(told)
    return {"eval": told}


@contextmanager
def _states_kept(path: Path) -> Iterator[None]:
    """Keep what a training saves to go on from; it is gone when the training has ended."""
    from reid_train.engine import loop

    own = loop.save_state

    def both(place: Path | str, state: Any) -> None:
        own(place, state)
        own(path, state)

    loop.save_state = both
    try:
        yield
    finally:
        loop.save_state = own


def _people(folder: Path) -> None:
    from pipeline.artifacts.steps import Job
    from pipeline.mannequins import DEFAULTS, checked, render

    folder.mkdir()
    params = checked(DEFAULTS | SMALL)
    render(Job(folder=folder, params=params, inputs={}, workspace=folder))
    (folder / "dataset.json").unlink()


def _weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from reid_train.models.clip.visual import ClipVit

    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    trunk = ClipVit(width=64, layers=1, heads=1, output_dim=8, input_size=(64, 32))
    file = nn.Module()
    for name, child in trunk.named_children():
        file.add_module(name, child)
    for tail, dim in (("", 64), ("_proj", 8)):
        file.add_module(f"classifier{tail}", nn.Linear(dim, 5, bias=False))
        norm = nn.BatchNorm1d(dim)
        nn.init.uniform_(norm.weight)
        file.add_module(f"bottleneck{tail}", norm)
    state = {key: value.clone() for key, value in file.state_dict().items()}
    torch.save(state, folder / "clip.pth")
    torch.save({"state_dict": state, "epoch": 3}, folder / "old.pth",
               _use_new_zipfile_serialization=False)  # fmt: skip
    save_file(state, folder / "clip.safetensors")


def _segformer(folder: Path) -> None:
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from pipeline.labels.sets import LIP

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(LIP.names)),
        label2id={name: number for number, name in enumerate(LIP.names)},
    )
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    processor = {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "do_reduce_labels": False,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2,
        "rescale_factor": 1 / 255, "size": {"height": 64, "width": 32},
        "image_processor_type": "SegformerImageProcessor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
