"""What a person types or has wrong: one line that names it, exit code 2, no traceback."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from tests.cli.conftest import TRAIN, Console
from tests.trees import market1501, prid2011

CLIP = (
    "train", "baseline-rn50", "--dataset", "folder", "--set", "input.size=[32,16]",
    "--set", "stages.image.data.ids=2",
)  # fmt: skip


def test_folder_that_is_no_such_dataset(console: Console, tmp_path: Path):
    root = market1501(tmp_path)
    shutil.move(root / "query", root / "querry")
    line = console.mistake("prepare", "market1501", "--root", tmp_path)
    for part in (f"found no Market-1501 in {tmp_path}", "bounding_box_train, bounding_box_test"):
        assert part in line
    assert f"nearest is {root}, which lacks query" in line
    assert "type reidpipe prepare market1501 --root FOLDER" in line


def test_folder_that_is_not_there(console: Console, tmp_path: Path):
    line = console.mistake("prepare", "market1501", "--root", tmp_path / "gone")
    assert f"found no folder {tmp_path / 'gone'}" in line and "--root FOLDER" in line


def test_dataset_that_was_never_prepared(console: Console, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REIDPIPE_DATA", raising=False)
    monkeypatch.delenv("FASTREID_DATASETS", raising=False)
    line = console.mistake("train", "--dataset", "market1501")
    assert "found no market1501 (searched ./data" in line and "--root DIR" in line


def test_archive_that_is_none(console: Console, tmp_path: Path):
    (tmp_path / "prid.zip").write_bytes(b"<html>sign in to download</html>")
    line = console.mistake("prepare", "prid2011", "--archive", tmp_path / "prid.zip")
    assert f"found a web page in {tmp_path / 'prid.zip'} (32 bytes)" in line
    assert "get it again" in line


def test_archive_that_was_cut(console: Console, tmp_path: Path):
    archive = tmp_path / "prid.zip"
    prid2011(tmp_path / "tree")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "tree").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "tree"))
    archive.write_bytes(archive.read_bytes()[:-200])
    line = console.mistake("prepare", "prid2011", "--archive", archive)
    assert f"found no whole zip or tar archive in {archive}" in line


def test_an_archive_that_alone_is_not_the_dataset(console: Console, tmp_path: Path):
    (tmp_path / "download.bin").write_bytes(b"x")
    line = console.mistake("prepare", "imagenet", "--archive", tmp_path / "download.bin")
    assert "found --archive for imagenet" in line and "prepare imagenet --root DIR" in line


def test_archive_with_a_wrong_checksum(console: Console, tmp_path: Path):
    archive = tmp_path / "Market-1501-v15.09.15.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Market-1501-v15.09.15/query/a.jpg", b"x")
    line = console.mistake("prepare", "market1501", "--archive", archive)
    assert "expected 65005ab7d12ec1c44de4eeafe813e68a" in line  # published MD5
    assert f"{archive}: found md5 " in line and "--root DIR" in line
    assert not (console.root / "datasets" / "market1501" / "files").exists()


def test_archive_and_folder_at_once(console: Console, tmp_path: Path):
    words = ("prepare", "folder", "--root", tmp_path, "--archive", tmp_path / "a.zip")
    assert "found both --root and --archive" in console.mistake(*words)
    line = console.mistake("prepare", "mannequins", "--root", tmp_path)
    assert "found --root for mannequins" in line


def test_what_is_refused_leaves_what_was_there(console: Console, people: Path, tmp_path: Path):
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w") as file:
        for path in filter(Path.is_file, people.rglob("*")):
            file.write(path, Path("people") / path.relative_to(people))
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as file:
        file.writestr("../out.jpg", b"x")
    (tmp_path / "empty").mkdir()
    console("prepare", "folder", "--archive", good, "--size", "32x16")
    console.mistake("prepare", "folder", "--archive", evil)
    console.mistake("prepare", "folder", "--root", tmp_path / "empty")
    assert "nothing to do" in console("prepare", "folder", "--size", "32x16").stdout


def test_truncated_images_are_counted_and_named(console: Console, tmp_path: Path):
    """No mistake of the command: it goes on without them."""
    root = market1501(tmp_path)
    victim = root / "bounding_box_train" / "0007_c6s1_007006_01.jpg"
    victim.write_bytes(victim.read_bytes()[:400])
    words = ("prepare", "market1501", "--root", root, "--size", "32x16", "--allow-mismatch")
    result = console(*words)
    assert "warning: 1 damaged images are left out:" in result.stdout
    named = [line for line in result.stdout.splitlines() if victim.name in line]
    assert len(named) == 1 and "damaged image" in named[0]
    found = console.json(*words)
    assert found["damaged"] == [f"bounding_box_train/{victim.name}"]
    train = next(row for row in found["counts"] if row["subset"] == "train")
    assert (train["ids"], train["images"]) == (2, 3)


def test_images_without_cameras(console: Console, tmp_path: Path):
    root = tmp_path / "mine"
    for split, names in (("train", "ab"), ("query", "a"), ("gallery", "bc")):
        for person in range(4):
            for name in names:
                path = root / split / str(person) / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((16, 32), 50 + 10 * person).save(path)
    console("prepare", "folder", "--root", root, "--size", "32x16")
    console("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    found = console.json("eval")
    assert (found["exclude"], found["valid_queries"]) == ("same-image", 4)
    assert console.json("eval", "--exclude", "none")["exclude"] == "none"


def test_rerank_of_too_few_images(console: Console, tmp_path: Path):
    root = tmp_path / "mine"
    for split, name in (("train", "a"), ("train", "b"), ("query", "a"), ("gallery", "b")):
        for person in range(2):
            path = root / split / str(person) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((16, 32), 50 + 10 * person).save(path)
    console("prepare", "folder", "--root", root, "--size", "32x16")
    console("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    line = console.mistake("eval", "--exclude", "none", "--rerank")
    assert "found 4 images for k1=20" in line


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ("train", "--set", "stages.0.epoch=3"),
            ("unknown key 'stages.0.epoch'", "did you mean 'stages.0.epochs'?"),
        ),
        (("train", "--set", "stages.0.epochs=many"), ("found 'many' for stages.0.epochs",)),
        (("train", "--set", "stages.0.epochs"), ("found --set stages.0.epochs", "KEY=VALUE")),
        (("train", "--set", "=3"), ("found --set =3", "KEY=VALUE")),
        (("train", "--set", "stages.7.epochs=3"), ("stages.7",)),
        (
            ("train", "baseline-tinny"),
            ("recipe 'baseline-tinny'", "did you mean 'baseline-tiny'?", "type reidpipe recipes"),
        ),
        (("train", "missing.yaml"), ("missing.yaml",)),
        (("recipes", "bignett"), ("did you mean 'bignet'?",)),
        (
            ("train", "--dataset", "market1500"),
            ("dataset 'market1500'", "did you mean 'market1501'?", "type reidpipe datasets"),
        ),
        (("prepare", "market1500"), ("did you mean 'market1501'?",)),
        (("prepare", "msmt17:v3"), ("v3", "v1", "v2")),
        (("prepare", "--size", "big"), ("found size 'big'", "--size 256x128")),
        (("parse", "market1500"), ("did you mean 'market1501'?",)),
        (("parse", "--model", "shcp"), ("parser 'shcp'", "did you mean 'schp'?")),
        (("parse", "--scales", "1,x"), ("found scales '1,x'", "--scales 0.75,1.0")),
        (("datasets", "market1500"), ("did you mean 'market1501'?",)),
        (("trian",), ("unknown command 'trian'", "did you mean 'train'?", "type reidpipe -h")),
        (("cache", "lst"), ("'lst'", "'ls'", "type reidpipe cache -h")),
        (("train", "--sede", "1"), ("--sede", "--seed", "type reidpipe train -h")),
        (("train", "--seed", "-1"), ("-1", "type reidpipe train -h")),
        (("train", "--pretrained", "opnai"), ("found no file opnai", "openai")),
        (("report",), ("RUNS", "type reidpipe report -h")),
        (("eval",), ("found no run in", "type reidpipe train")),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_words_that_mean_nothing(
    console: Console, words: tuple[str, ...], parts: tuple[str, ...], monkeypatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    line = console.mistake(*words)
    assert all(part in line for part in parts), line
    assert not list(console.root.glob("artifacts/*/*"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("eval", "--protocol", "standart"), ("'standart'", "did you mean 'standard'?")),
        (("eval", "--exclude", "camera"), ("'camera'", "same-camera", "type reidpipe eval -h")),
        (("eval", "nosuch"), ("found no run 'nosuch'", "type reidpipe eval baseline-tiny-folder")),
        (("report", "baseline-tini"), ("did you mean 'baseline-tiny-folder-s0-",)),
        (("embed", "nosuch", "."), ("found no run 'nosuch'",)),
        (("embed", "baseline-tiny", "nowhere"), ("found no folder nowhere",)),
        (("embed", "baseline-tiny", "empty"), ("found no image below empty",)),
        (("search", "baseline-tiny", "no.jpg", "empty"), ("found no file no.jpg",)),
        (("search", "baseline-tiny", "text.jpg", "text"), ("no image at text.jpg",)),
        (("search", "baseline-tiny", "fine.png", "text"), ("no image at text",)),
        (("cache", "rm", "modle"), ("did you mean 'model'?", "type reidpipe cache ls")),
        (("eval", "--exclude", "none", "--device", "gpu"), ("device 'gpu'", "--device auto")),
    ],
    ids=lambda value: " ".join(value) if value[0].islower() else "",
)
def test_words_that_miss_what_exists(
    trained: Console, words: tuple[str, ...], parts: tuple[str, ...], monkeypatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text").mkdir()
    for place in ("text.jpg", "text/a.jpg"):
        Path(place).write_text("no image")
    Image.new("RGB", (16, 32)).save("fine.png")
    result = trained(*words, code=2)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("making ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and not result.stdout
    assert all(part in lines[0] for part in parts), lines[0]


@pytest.mark.parametrize("command", ["train", "run"])
def test_label_maps_of_a_parser_with_names_of_its_own(
    console: Console, command: str, tmp_path: Path
):
    names = {"0": "Background", "1": "Cap", "2": "Pants"}
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "segformer", "id2label": names}))
    (model / "model.safetensors").write_bytes(b"never opened")
    words = (command, "pi-vl-tiny", "--parsing", f"hf:{model}")
    line = console.mistake(*words)
    assert "found label 'Cap'" in line and "type --label-map FILE.json" in line
    table = tmp_path / "labels.json"
    line = console.mistake(*words, "--label-map", table)
    assert f"found no readable label map {table}" in line and "--label-map FILE.json" in line
    table.write_text(json.dumps({"Background": "background", "Cap": "hatt", "Pants": "pants"}))
    assert "'hatt' (did you mean 'hat'?)" in console.mistake(*words, "--label-map", table)
    line = console.mistake(command, "pi-vl-tiny", "--label-map", table)
    assert "--label-map for parser 'schp-tiny'" in line and "--parsing hf:FOLDER" in line
    assert not list(console.root.glob("artifacts/*/*"))


def test_parser_weights_of_another_network(trained: Console, tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"body.weight": torch.zeros(2), "body.bias": torch.zeros(2)}, path)
    words = ("parse", "folder", "--model", "schp", "--weights", path, "--device", "cpu")
    line = trained.mistake(*words, notes=1)
    assert f"found weights of another network in {path}" in line
    assert "missing keys, first 'conv1.weight'" in line
    assert "2 unknown keys, first 'body.bias'" in line or "first 'body.weight'" in line


def test_parser_weights_that_nobody_has(trained: Console, monkeypatch):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    line = trained.mistake("parse", "folder", "--model", "schp")
    for part in ("exp-schp-201908261155-lip.pth", "267 MB", "https://github.com/GoGoDuck912/"):
        assert part in line
    assert str(trained.root / "weights") in line and "--model schp-tiny works now" in line


def test_pretrained_weights_of_another_network(trained: Console, tmp_path: Path):
    path = tmp_path / "other.pth"
    torch.save({"visual.conv1.weight": torch.zeros(2), "visual.extra": torch.zeros(2)}, path)
    line = trained.mistake(*CLIP, "--pretrained", path, "--device", "cpu", notes=2)
    assert str(path) in line and "missing keys, first '" in line and "first 'extra'" in line


class Payload:
    """Unpickled by a careless loader, it leaves a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", ["torch", 2, 4])
@pytest.mark.parametrize("command", ["parse", "train"])
def test_pickle_is_refused_and_its_code_not_run(
    trained: Console, tmp_path: Path, command: str, protocol: Any
):
    mark, path = tmp_path / "executed", tmp_path / "weights.pth"
    if protocol == "torch":
        torch.save({"state_dict": Payload(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(mark), protocol))
    words = {
        "parse": ("parse", "folder", "--model", "schp", "--weights", path),
        "train": (*CLIP, "--pretrained", path),
    }[command]
    result = trained(*words, "--device", "cpu", code=2)
    line = result.stderr.splitlines()[-1]
    made = [line for line in result.stderr.splitlines() if line.startswith("making ")]
    assert len(result.stderr.splitlines()) == len(made) + 1
    assert f"not plain weights ({path}" in line and "expected tensors only" in line
    assert not mark.exists()
    with path.open("rb") as file:  # the payload is live: a careless loader does run it
        if protocol != "torch":
            pickle.load(file)
            assert mark.exists()


def no_room(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/pixels.npy")


def test_full_disk_while_packing(trained: Console, monkeypatch):
    words = ("prepare", "folder", "--size", "48x24")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.images.work.os.posix_fallocate", no_room)
        line = trained.mistake(*words, notes=2)
    assert (
        "found the disk full at /disk/pixels.npy" in line and "type the same command again" in line
    )
    assert "1 unfinished" in trained("status").stdout
    assert not list((trained.root / "artifacts").rglob("*.tmp-*"))
    assert len(trained.json(*words)["made"]) == 1


def test_full_disk_told_by_a_library(trained: Console, monkeypatch):
    """safetensors gives no error number, only the text."""
    from safetensors import SafetensorError

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    monkeypatch.setattr("reid_train.engine.checkpoint.save_file", full)
    line = trained.mistake(*words, "--seed", "3", notes=3)  # making, its log, an epoch
    assert "found the disk full; expected room" in line
    assert len(list_runs(Workspace(trained.root))) == 1


def test_files_that_are_closed_to_us(trained: Console, monkeypatch):
    def closed(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/elsewhere/metrics.json")

    monkeypatch.setattr("pipeline.artifacts.store.write_json", closed)
    line = trained.mistake("eval", "--exclude", "none", notes=1)
    assert "found /elsewhere/metrics.json closed to you" in line and "--workspace DIR" in line


def test_workspace_that_cannot_be_written(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert "is a file" in Console(tmp_path / "file").mistake("prepare")
    inside = Console(tmp_path / "file" / "deeper")
    for words in (("prepare",), ("parse",), ("train",), ("demo",)):
        line = inside.mistake(*words)
        assert f"workspace {inside.root} cannot be made" in line and "--workspace DIR" in line
    monkeypatch.setattr("pipeline.artifacts.store.os.access", lambda *_: False)
    line = Console(tmp_path / "readonly").mistake("prepare")
    assert "cannot be written" in line and "REIDPIPE_WORKSPACE" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that is missed")
@pytest.mark.parametrize(
    "words",
    [
        ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--seed", "9"),
        ("eval", "--exclude", "same-image"),
        ("embed", "baseline-tiny", "images"),
    ],
    ids=lambda words: words[0],
)
def test_missing_gpu(trained: Console, people: Path, monkeypatch, words: tuple[str, ...]):
    monkeypatch.chdir(people)
    result = trained(*words, "--device", "cuda", code=2)
    line = result.stderr.splitlines()[-1]
    assert "found 0 usable GPUs" in line and "type --device cpu" in line
    assert all(other.startswith("making ") for other in result.stderr.splitlines()[:-1])
    # Nothing was begun on another device in its place.
    assert len(list_runs(Workspace(trained.root))) == 1


def test_programming_errors_keep_their_traceback(trained: Console, monkeypatch):
    """Only mistakes of people and machines become one line."""

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("mAP")

    monkeypatch.setattr("reid_train.evaluation.commands.metrics_row", broken)
    with pytest.raises(KeyError):
        trained("eval")
