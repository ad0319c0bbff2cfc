"""The step "maps": one map per row, resumable after a kill, failures named."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from parsing_models import load_parser, work
from parsing_models.networks.schp.network import SCHP, Widths
from parsing_models.work import parse
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import ImageRow, Index, read_index, write_index
from pipeline.labels import shards, writing
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.terminal.errors import ReidpipeError
from tests.finished import finished_keys

SMALL = Widths(layers=(1, 1, 1, 1), stem=4, planes=4, context=8, head=8, skip=4, edge=4)
OPTIONS: dict[str, Any] = {"input_size": [64, 32]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SCHP network with its classifier centred, so that maps show many classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SCHP(SMALL).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        classifier: Any = network.fushion[3]
        with torch.no_grad():
            logits = network(2 * torch.randn(8, 3, 64, 32)).fusion
            spread = logits.std((0, 2, 3)) + 1e-6
            classifier.weight *= 3 / spread[:, None, None, None]
            classifier.bias.copy_(3 * (classifier.bias - logits.mean((0, 2, 3))) / spread)
    state = network.state_dict()
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(state, path)
    return path


def make_images(root: Path, count: int, damaged: tuple[int, ...] = ()) -> Index:
    rows = []
    root.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        rng = np.random.default_rng(n)
        height, width = 40 + 8 * (n % 3), 20
        blocks = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        path = root / f"{n:04d}.png"
        Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(path)
        data = path.read_bytes()
        if n in damaged:
            data = data[: len(data) // 2]
            path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        name = path.name
        rows.append(ImageRow(name, name, "train", n, 0, None, "", None, width, height, digest, {}))
    return Index("blocks", root, rows)


def make_job(tmp_path: Path, weights: Path, count: int, **more: Any) -> Job:
    damaged = more.pop("damaged", ())
    (tmp_path / "index").mkdir()
    write_index(tmp_path / "index", make_images(tmp_path / "images", count, damaged))
    folder = tmp_path / "maps"
    folder.mkdir()
    params = {"model": "schp", "options": OPTIONS, "batch": 8} | more
    inputs, files = {"index": tmp_path / "index"}, {"weights": weights}
    return Job(folder, params, inputs, tmp_path, files, device="cpu")


def test_every_image_gets_the_map_the_parser_makes(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 21)
    summary = parse(job)
    assert summary["images"] == summary["made"] == 21 and summary["failed"] == []
    assert summary["images_per_s"] > 0
    reader = LabelMapReader(job.folder)
    assert len(reader) == 21 and reader.label_set == LIP and reader.size == (256, 128)
    parser = load_parser("schp", weights, **OPTIONS)
    classes = set()
    for name in ("0003.png", "0020.png"):
        path = tmp_path / "images" / name
        image = np.asarray(Image.open(path))
        expected = parser.parse([image])
        label, sure = reader[name]
        assert (label == expected.label[0]).mean() > 0.999
        assert np.abs(sure - expected.confidence[0]).max() <= 0.5 / 15 + 1e-3
        assert reader.source_digest(name) == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        classes |= set(np.unique(label).tolist())
    assert len(classes) > 1
    facts = reader.attributes
    assert facts["model"] == "schp" and facts["channel_order"] == "bgr"
    assert json.loads(facts["input_size"]) == [64, 32] and json.loads(facts["scales"]) == [1.0]
    assert len(facts["weights_sha256"]) == 64 and facts["classes"] == 20


def test_maps_do_not_depend_on_the_number_of_workers(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 40)
    parse(job)
    threads = torch.get_num_threads()
    other = replace(job, folder=tmp_path / "other", workers=3)
    other.folder.mkdir()
    parse(other)
    assert torch.get_num_threads() == threads
    names = [path.name for path in job.folder.iterdir()]
    assert names == ["maps-00000.h5"]
    assert (job.folder / names[0]).read_bytes() == (other.folder / names[0]).read_bytes()


def test_shards_have_the_same_bytes_whoever_makes_them_and_when(
    tmp_path: Path, weights: Path, monkeypatch: Any
):
    for module in (work, writing):
        monkeypatch.setattr(module, "SHARD_IMAGES", 8)
    job = make_job(tmp_path, weights, 21, damaged=(4,))

    def at(name: str) -> Job:
        (tmp_path / name).mkdir()
        return replace(job, folder=tmp_path / name)

    def made(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*.h5")}

    parse(job)
    expected = made(job.folder)
    assert sorted(expected) == [f"maps-0000{n}.h5" for n in range(3)]
    index = read_index(tmp_path / "index")
    # As on workers of which the last is done first.
    rows = work.Missing(index.rows, (), (), 8)
    about = work._work(at("backwards"), index.root, rows.shards)
    for start in (16, 8, 0):
        work.make_maps(about, rows[start : start + 8])
    assert made(about.folder) == expected
    # As after a kill that left the one in the middle.
    again = at("killed")
    (again.folder / "maps-00001.h5").write_bytes(expected["maps-00001.h5"])
    assert parse(again)["made"] == 12
    assert made(again.folder) == expected
    # What can be read only later lies after all others.
    write_index(tmp_path / "index", make_images(tmp_path / "images", 21))
    assert parse(again)["made"] == 1
    assert made(again.folder).keys() - expected.keys() == {"maps-00003.h5"}
    assert list(LabelMapReader(again.folder))[-1] == "0004.png"


def test_a_second_execution_makes_nothing(tmp_path: Path, weights: Path, monkeypatch: Any):
    job = make_job(tmp_path, weights, 9)
    first = parse(job)
    before = {path.name: path.read_bytes() for path in job.folder.iterdir()}

    def forbidden(*_: Any) -> None:
        raise AssertionError("the parser was loaded although nothing is missing")

    monkeypatch.setattr(work, "_parser", forbidden)
    second = parse(job)
    assert second["made"] == 0 and second["images"] == 9
    assert second["no_person"] == first["no_person"] and second["one_class"] == first["one_class"]
    assert {path.name: path.read_bytes() for path in job.folder.iterdir()} == before


def test_damaged_and_changed_images_are_named(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 12, damaged=(4, 7))
    Image.new("RGB", (20, 40)).save(tmp_path / "images" / "0009.png")
    (tmp_path / "images" / "0011.png").unlink()
    summary = parse(job)
    assert summary["failed"] == ["0004.png", "0007.png", "0009.png", "0011.png"]
    assert summary["images"] == 8
    assert "0004.png" not in LabelMapReader(job.folder)
    # The rest is repaired later: only what is missing is made.
    make_images(tmp_path / "images", 12)
    index = make_images(tmp_path / "images", 12)
    write_index(tmp_path / "index", index)
    again = parse(job)
    assert again["made"] == 4 and again["images"] == 12 and again["failed"] == []


def test_nothing_readable_is_an_error(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 3, damaged=(0, 1, 2))
    with pytest.raises(ReidpipeError, match="none of 3 images could be parsed.*0000.png"):
        parse(job)


def test_empty_and_uniform_maps_are_named(tmp_path: Path, weights: Path, monkeypatch: Any):
    job = make_job(tmp_path, weights, 3)

    def painted(self: Any, images: Any, *_: Any, **__: Any) -> Any:
        label = np.zeros((len(images), 256, 128), np.uint8)
        label[1, :9] = 5
        label[2, :9], label[2, 9:20] = 5, 9
        return type("Maps", (), {"label": label, "confidence": np.ones(label.shape)})()

    monkeypatch.setattr("parsing_models.parsers.interface.Parser.parse", painted)
    summary = parse(job)
    assert summary["no_person"] == ["0000.png"] and summary["one_class"] == ["0001.png"]
    assert parse(job)["no_person"] == ["0000.png"]


def test_flip_and_scales_reach_the_parser_and_the_file(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 4, flip=True, scales=[0.75, 1.0])
    parse(job)
    reader = LabelMapReader(job.folder)
    image = np.asarray(Image.open(tmp_path / "images" / "0002.png"))
    parser = load_parser("schp", weights, **OPTIONS)
    expected = parser.parse([image], flip=True, scales=(0.75, 1.0))
    plain = parser.parse([image])
    label = reader["0002.png"][0]
    assert (label == expected.label[0]).mean() > 0.999 > (label == plain.label[0]).mean()
    assert reader.attributes["flip"] and json.loads(reader.attributes["scales"]) == [0.75, 1.0]


def test_missing_weights_are_one_line(tmp_path: Path, weights: Path, monkeypatch: Any):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    job = make_job(tmp_path, weights, 2)
    job.files.clear()
    with pytest.raises(ReidpipeError, match="schp-201908261155-lip.pth"):
        parse(job)
    target = tmp_path / "weights"
    target.mkdir()
    (target / "exp-schp-201908261155-lip.pth").write_bytes(weights.read_bytes())
    assert parse(job)["images"] == 2


RUN = """
    import sys
    from pathlib import Path
    from parsing_models.work import parse
    from pipeline.labels import writing
    from pipeline.artifacts.steps import Job
    writing.SHARD_IMAGES = 16
    root = Path(sys.argv[1])
    params = {"model": "schp", "options": {"input_size": [64, 32]}, "batch": 8}
    inputs, files = {"index": root / "index"}, {"weights": Path(sys.argv[2])}
    summary = parse(Job(root / "maps", params, inputs, root, files, device="cpu"))
    print(summary["made"], summary["images"])
"""


def start(root: Path, weights: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(root), str(weights)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})


@pytest.mark.slow
def test_a_killed_parse_is_resumed_and_only_the_missing_is_made(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 400)
    process = start(tmp_path, weights)
    deadline = time.monotonic() + 120
    while len(shards.shards(job.folder)) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    kept = {shard.name: shard.read_bytes() for shard in shards.shards(job.folder)}
    finished = finished_keys(job.folder)
    assert 64 <= len(finished) < 400 and shards.verify(job.folder) == []
    output, _ = start(tmp_path, weights).communicate(timeout=300)
    assert output.split() == [str(400 - len(finished)), "400"]
    for name, data in kept.items():
        assert (job.folder / name).read_bytes() == data
    assert shards.verify(job.folder) == []
    reader = LabelMapReader(job.folder)
    parser = load_parser("schp", weights, **OPTIONS)
    for name in reader.keys[::37]:
        image = np.asarray(Image.open(tmp_path / "images" / name))
        assert (reader[name][0] == parser.parse([image]).label[0]).mean() > 0.999


@pytest.mark.slow
def test_two_processes_share_the_work_without_collision(tmp_path: Path, weights: Path):
    job = make_job(tmp_path, weights, 120)
    first, second = start(tmp_path, weights), start(tmp_path, weights)
    assert [p.communicate(timeout=300)[0].split()[1] for p in (first, second)] == ["120", "120"]
    assert shards.verify(job.folder) == []
    assert len(LabelMapReader(job.folder)) == 120


@pytest.mark.slow
def test_a_cluster_makes_the_same_maps(tmp_path: Path, weights: Path):
    from distributed import LocalCluster

    job = make_job(tmp_path, weights, 300)
    here = replace(job, folder=tmp_path / "here")
    here.folder.mkdir()
    parse(here)
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    cluster: Any = LocalCluster(**options)
    with cluster:
        summary = parse(replace(job, scheduler=cluster.scheduler_address))
    assert summary["images"] == 300
    one, other = LabelMapReader(here.folder), LabelMapReader(job.folder)
    assert sorted(one.keys) == sorted(other.keys)
    for key in one.keys[::29]:
        assert (one[key][0] == other[key][0]).mean() > 0.999
