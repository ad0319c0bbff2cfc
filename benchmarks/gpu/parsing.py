"""Label maps as ``reidpipe parse`` makes them: decoded, warped, computed, warped back, written."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import device
from benchmarks.gpu.given import Given
from benchmarks.parsing import drawn_people, even_classes, random_blocks
from parsing_models import work
from parsing_models.networks.invpt.network import InvPT
from parsing_models.networks.invpt.network import Sizes as InvPTSizes
from parsing_models.networks.schp.network import SCHP, TINY, Widths
from parsing_models.networks.solider import Solider, SoliderSizes
from parsing_models.networks.swin import SwinSizes
from pipeline.datasets.index import Index, read_index
from reid_train.engine.runtime import Runtime

# SOLIDER's parser is published as code alone, with three sizes of Swin; this is the smallest.
SMALL_SWIN = SwinSizes(dim=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4))
SMALL_HEADS = Widths(context=8, head=8, skip=4, edge=4)
SMALL_INVPT = InvPTSizes(grid=8, patch=4, width=64, depth=4, heads=1, features=8, tokens=16)
SEMANTIC_WEIGHT = 0.8


def of(given: Given, kind: str, precision: str) -> dict[str, Any]:
    """Images a second: with decoding and writing, and of the network alone on full batches."""
    sizes = given.sizes
    runtime = Runtime.create(given.device)
    about = dict(sizes.parsers.get(kind, {}))
    small = bool(about.pop("small", False))
    options = {**about, **({"semantic_weight": SEMANTIC_WEIGHT} if kind == "solider" else {})}
    weights = given.folder / f"{kind}.pth"
    if not weights.is_file():
        draw(kind, small, weights, tuple(about.get("input_size", (193, 193))))
    told = json.dumps(options, sort_keys=True)
    parser = work._parser(kind, weights, told, given.device, precision)
    alone, operations = network_alone(given, parser, runtime)
    seconds, images = written(given, kind, weights, told, precision)
    return {
        "parser": kind,
        "precision": precision,
        "images_per_s": images / seconds,
        "network_images_per_s": alone,
        "gflop_per_image": operations / 1e9,
        "share_of_peak": given.share(operations * images / seconds),
        "network_share_of_peak": given.share(operations * alone),
        "memory_gib": device.peak_gib(runtime),
    }


def network_alone(given: Given, parser: Any, runtime: Runtime) -> tuple[float, float]:
    """Images a second of the network on batches that lie on the device, and its operations an
    image.
    """
    count = given.sizes.network_batch
    images = torch.randn(count, 3, *parser.input_size, device=runtime.device)
    images = images.contiguous(memory_format=torch.channels_last)
    # In inference mode the counter would take einsum apart where autocast no longer sees it.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        parser.network(images[:2])
    with torch.inference_mode():
        seconds = device.seconds_of(
            lambda: parser.network(images), runtime, least=given.sizes.least
        )
    return count / seconds, counter.get_total_flops() / 2


def written(
    given: Given, kind: str, weights: Path, options: str, precision: str
) -> tuple[float, int]:
    """Seconds of the worker of ``reidpipe parse`` after a first batch, and how many images."""
    sizes = given.sizes
    # Weights are random here, and their classes nearly tied: neither agreement with the CPU nor
    # maps of a single class, an error on a GPU alone, say anything of the device.
    work._checked = lambda *_: {}
    work.OneClassGuard.check = lambda _: None  # type: ignore
    index = drawn(given.folder / "parsed-people", min(sizes.parsed, 64))
    some = index.rows[: min(sizes.parsed, 64)]
    rows = [replace(some[n % len(some)], key=f"{n:06d}") for n in range(sizes.parsed)]
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    threads = Runtime.create(given.device).threads

    def made(name: str, listed: list[Any]) -> None:
        work.make_maps(
            work.Work(
                folder=folder / name, root=index.root, model=kind, weights=weights,
                options=options, flip=False, scales=(1.0,),
                batch=sizes.parsing_batch, device=given.device, threads=threads,
                decoding=index.decoding, precision=precision, command=name,
            ),
            work.Missing(listed, (), (), work.SHARD_IMAGES),
        )  # fmt: skip

    made("first", rows[: 2 * sizes.parsing_batch])
    started = time.perf_counter()
    made("then", rows)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    return seconds, len(rows)


def drawn(folder: Path, images: int) -> Index:
    """The index of people who are drawn once."""
    return read_index(folder) if (folder / "index.csv").is_file() else drawn_people(folder, images)


def draw(kind: str, small: bool, path: Path, size: tuple[int, ...]) -> None:
    """A file of random weights, in which every class wins somewhere."""
    torch.manual_seed(0)
    make: dict[str, Callable[[bool, tuple[int, ...]], nn.Module]] = {
        "schp": _schp, "solider": _solider, "invpt": _invpt,
    }  # fmt: skip
    network = make[kind](small, size)
    torch.save(network.state_dict(), path)


def _schp(small: bool, size: tuple[int, ...]) -> nn.Module:
    network = SCHP(TINY if small else Widths()).eval()
    random_blocks(network)
    even_classes(network.fushion[3], partial(_fusion, network, size))
    return network


def _solider(small: bool, size: tuple[int, ...]) -> nn.Module:
    sizes = SoliderSizes(SMALL_SWIN, SMALL_HEADS) if small else SoliderSizes(SwinSizes(), Widths(
        skip=SwinSizes().dim // 2, edge=2 * SwinSizes().dim
    ))  # fmt: skip
    network = Solider(sizes, semantic_weight=SEMANTIC_WEIGHT).eval()
    even_classes(network.fushion[4], partial(_fusion, network, size))
    return network


def _invpt(small: bool, size: tuple[int, ...]) -> nn.Module:
    del size
    network = InvPT(SMALL_INVPT if small else None).eval()
    network.backbone.init_weights()  # timm leaves them as memory was: others are always read
    side = network.sizes.input
    head: Any = network.heads["human_parts"]

    def logits() -> Tensor:
        images = torch.randn(1, 3, side, side)
        return network(images, tasks=("human_parts",)).logits["human_parts"]

    even_classes(head.linear_pred, logits)
    return network


def _fusion(network: nn.Module, size: tuple[int, ...]) -> Tensor:
    return network(2 * torch.randn(2, 3, *size)).fusion
