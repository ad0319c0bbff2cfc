"""Weights and states: .pth, .pt, .safetensors, as pickles and as headers that lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Place
from tests.fuzz.damage import damaged
from tests.fuzz.pristine import CPU, DATASET, RUN, TRAIN
from tests.fuzz.values import mutated, strange

_FORMATS = ("clip-reid", "clip-reid", "col780", "fast-reid", "ianet", "pcl-clip", "simple-reid", "torchreid")  # fmt: skip


class _Payload:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (open, (str(self.marker), "w"))


def _strange_tensor(rng: random.Random, tensor: Any) -> Any:
    import torch

    ways = (
        lambda t: t * float("nan"), lambda t: t.double() * 1e300, lambda t: t.to(torch.complex64),
        lambda t: t.to(torch.bool), lambda t: t.to(torch.uint8), lambda t: t.to(torch.bfloat16),
        lambda t: t.to(torch.float8_e4m3fn), lambda t: t.reshape(-1), lambda t: t[None], lambda t: t[:0],
        lambda t: t.new_zeros(()), lambda t: t.flatten()[:1].expand(10**12), lambda t: t.to("meta"),
        lambda t: t.float().to_sparse(), lambda t: t.new_zeros(0, 10**9),
        lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8), lambda t: t.to(torch.int64),
        lambda t: torch.nn.Parameter(t.float()), lambda t: t.new_zeros((1,) * 60), lambda t: t.flip(0),
        lambda t: torch.nested.nested_tensor([t.float().flatten(), t.float().flatten()[:1]]),
    )  # fmt: skip
    try:
        return rng.choice(ways)(tensor)
    except Exception:  # noqa: BLE001 - of this tensor there is no such
        return tensor[:0]


def _state(rng: random.Random, place: Place) -> tuple[Any, str]:
    """A state dict with strange tensors, names, wrappers or values."""
    import torch

    state: Any = torch.load(place.pristine / "files" / "clip.pth")
    way = rng.randrange(8)
    if way < 4:
        keys = rng.sample(sorted(state), rng.choice((1, 1, 3)))
        for key in keys:
            state[key] = _strange_tensor(rng, state[key])
        return state, f"strange {', '.join(keys)}"
    if way == 4:
        loop: dict[str, Any] = {}
        loop[rng.choice(("state_dict", "model", "x"))] = loop
        return rng.choice(
            (loop, {**loop, "model": state}, [state], tuple(state.values()))
        ), "wrapped"
    if way == 5:
        key = rng.choice(sorted(state))
        name: Any = rng.choice(
            ("", "\ud800", "a" * 10_000, "module." + key, 5, None, ("a", 1), "a\nb")
        )
        state[name] = state.pop(key)
        return state, f"{key} called {ascii(name)[:40]}"
    if way == 6:
        key = rng.choice(sorted(state))
        state[key] = strange(rng)
        return state, f"{key} is {ascii(state[key])[:40]}"
    for _ in range(3):
        state = {rng.choice(("state_dict", "model", "net", "teacher")): state}
    return state, "in three wrappers"


def _saved(rng: random.Random, path: Path, content: Any) -> None:
    import torch

    try:
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.7)
    except Exception:  # noqa: BLE001 - torch cannot write some of them
        path.write_bytes(pickle.dumps({"x": 1}))


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * (200 << 20))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")


def _recursing(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def weights(rng: random.Random, place: Place) -> Case:
    """A PyTorch file, as ``import``, ``--pretrained``, ``--weights`` and ``--learner`` read it."""
    source = place.pristine / "files" / rng.choice(("clip.pth", "clip.pth", "old.pth"))
    path = place.given / rng.choice(("a.pth", "a.pt", "a.bin", "a.pth.tar"))
    way = rng.randrange(10)
    if way < 5:
        data, about = damaged(rng, source.read_bytes())
        path.write_bytes(data)
    elif way < 8:
        content, about = _state(rng, place)
        _saved(rng, path, content)
    elif way == 8:
        about = "a pickle that acts"
        payload = _Payload(place.executed)
        content = rng.choice((payload, {"state_dict": payload}, {"x": [payload]}))
        if rng.random() < 0.5:
            path.write_bytes(pickle.dumps(content, rng.choice((0, 2, 4))))
        else:
            _saved(rng, path, content)
    else:
        about = "a bomb, recursion or another pickle"
        choice = rng.randrange(4)
        if choice == 0:
            _zip_bomb(path)
        elif choice == 1:
            path.write_bytes(_recursing(rng.choice((10, 5000, 200_000))))
        elif choice == 2:
            path.write_bytes(pickle.dumps(strange(rng)))
        else:
            path.write_bytes(b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".")
    return Case(f"{source.name} {about}", _commands(rng, path, place))


def _commands(rng: random.Random, path: Path, place: Place) -> list[Any]:
    size = ("--set", "input_size=[64,32]", "--set", "stride=16")
    name = rng.choice(_FORMATS)
    lines: list[Any] = [("import", path, "--from", name, *(size if name == "clip-reid" else ()))]
    more: list[Any] = [
        ("parse", DATASET, "--model", rng.choice(("schp-tiny", "schp", "solider", "segformer-tiny")), "--weights", path, *CPU),
        ("classify", "zero-shot-tiny", "--pretrained", path, "--dataset", place.pristine / "people", *CPU),
        ("classify", "coop-tiny", "--learner", path, "--dataset", place.pristine / "people", *CPU),
        ("train", "clip-reid-tiny", "--pretrained", path, "--dataset", DATASET, *CPU),
    ]  # fmt: skip
    if rng.random() < 0.35:
        shutil.rmtree(place.workspace)
        shutil.copytree(place.pristine / "workspace", place.workspace)
        lines.append(rng.choice(more))
    return lines


def safetensors(rng: random.Random, place: Place) -> Case:
    """A .safetensors file whose header lies."""
    data = (place.pristine / "files" / "clip.safetensors").read_bytes()
    path = place.given / "a.safetensors"
    if rng.random() < 0.5:
        data, about = damaged(rng, data)
        path.write_bytes(data)
        return Case(about, _commands(rng, path, place))
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    way = rng.randrange(7)
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    about = f"{name}: "
    if way == 0:
        entry["shape"] = rng.choice(([10**12], [-1], [2**63, 2], [0], [], [1.5], "x", [1] * 100))
        about += f"shape {str(entry['shape'])[:40]}"
    elif way == 1:
        entry["dtype"] = rng.choice(
            ("F64", "I8", "BF16", "F8_E4M3", "U64", "BOOL", "X", 5, "C64", "F4")
        )
        about += f"dtype {entry['dtype']}"
    elif way == 2:
        entry["data_offsets"] = rng.choice(
            ([0, 2**62], [-1, 4], [4, 0], [0], "x", [0, 0], [2**64, 2**65])
        )
        about += f"offsets {entry['data_offsets']}"
    elif way == 3:
        header, about = mutated(rng, header)
    elif way == 4:
        header["__metadata__"] = strange(rng)
        about = "metadata"
    text = json.dumps(header, default=str).encode("utf-8", "surrogatepass")
    length = len(text)
    if way == 5:
        length = rng.choice((0, 2**63, 2**64 - 1, length + 5, length - 5, 10**8 + 1))
        about = f"a header of {length} bytes"
    elif way == 6:
        text, about = b"{" * 50_000, "50000 brackets"
        length = len(text)
    path.write_bytes(struct.pack("<Q", max(length, 0)) + text + data[8 + size :])
    return Case(about, _commands(rng, path, place))


def state(rng: random.Random, place: Place) -> Case:
    """``state.pt`` of a training that was stopped: another one's, or damaged."""
    import torch

    shutil.rmtree(place.workspace)
    shutil.copytree(place.pristine / "workspace", place.workspace)
    (folder,) = [p.parent for p in place.workspace.glob("artifacts/model/*/validation.json")]
    for name in ("artifact.json", "model.safetensors", "model.json", "heads.safetensors"):
        (folder / name).unlink()
    # What a stopped training leaves is made by it; this is its form.
    path = folder / "state.pt"
    whole = place.pristine / "files" / "state.pt"
    content = torch.load(whole)
    way = rng.randrange(3)
    if way == 0:
        data, about = damaged(rng, whole.read_bytes())
        path.write_bytes(data)
    elif way == 1:
        content, about = _changed_state(rng, content)
        _saved(rng, path, content)
    else:
        _saved(rng, path, {"x": _Payload(place.executed)})
        about = "a pickle that acts"
    return Case(about, [("status",), TRAIN, ("watch", RUN, "--once")])


def _changed_state(rng: random.Random, content: Any) -> tuple[Any, str]:
    """One value, at any depth, of another type or a tensor of another kind."""
    import torch

    parent: Any = None
    key: Any = None
    path: list[str] = []
    value = content
    while isinstance(value, dict | list) and value and (not path or rng.random() < 0.8):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        parent, key = value, rng.choice(keys)
        path.append(str(key))
        value = value[key]
    if parent is None:
        return strange(rng), "something else"
    if torch.is_tensor(value):
        parent[key] = _strange_tensor(rng, value)
    elif rng.random() < 0.2 and isinstance(parent, dict):
        del parent[key]
    else:
        parent[key] = strange(rng)
    return content, ".".join(path)


def numbers(rng: random.Random, place: Place) -> Case:
    """npy and npz: object arrays, headers that lie, other shapes and types; read as galleries."""
    import numpy as np

    shutil.copytree(place.pristine / "gallery", place.given / "gallery")
    path = place.given / "gallery" / "features.npy"
    whole = np.load(path)
    way = rng.randrange(6)
    if way == 0:
        data, about = damaged(rng, path.read_bytes())
        path.write_bytes(data)
    elif way == 1:
        header = {
            "descr": rng.choice(("<f4", "|O", "<f8", ">f4", "|V4", "<U4", "<c8", "|S4", "<f2", "<M8[s]", [("a", "<f4")])),
            "fortran_order": rng.random() < 0.3,
            "shape": rng.choice((whole.shape, (10**9, 10**9), (-1, 4), (0, 0), (len(whole),), (2**62, 2), whole.shape[::-1])),
        }  # fmt: skip
        about = f"header {header}"
        _npy(path, str(header), whole.tobytes())
    elif way == 2:
        text = rng.choice(
            (
                "{",
                "__import__('os').system('touch x')",
                "()",
                "{" * 900,
                "{'descr': '<f4'}",
                "9" * 5000,
            )
        )
        about = f"header {text[:40]}"
        _npy(path, text, whole.tobytes())
    elif way == 3:
        np.save(path, np.array([_Payload(place.executed)] * len(whole), object), allow_pickle=True)
        about = "objects"
    elif way == 4:
        other = rng.choice((whole * np.nan, whole.astype(np.float64), whole[:3], whole[:, :3], whole.T, whole[0], whole * 0, whole.astype("i1")))  # fmt: skip
        np.save(path, other)
        about = f"{other.dtype} {other.shape}"
    else:
        buffer = io.BytesIO()
        np.savez(buffer, a=whole)
        path.write_bytes(buffer.getvalue())
        about = "an npz"
    os.utime(path)
    return Case(about, _search(rng, place))


def _npy(path: Path, header: str, data: bytes) -> None:
    text = header.encode("latin-1", "replace") + b"\n"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + data)


def gallery(rng: random.Random, place: Place) -> Case:
    """``gallery.json`` of another shape."""
    from tests.fuzz.values import as_json

    shutil.copytree(place.pristine / "gallery", place.given / "gallery")
    path = place.given / "gallery" / "gallery.json"
    changed, about = mutated(rng, json.loads(path.read_text()))
    path.write_bytes(as_json(rng, changed))
    return Case(about, _search(rng, place))


def _search(rng: random.Random, place: Place) -> list[Any]:
    shutil.rmtree(place.workspace)
    shutil.copytree(place.pristine / "workspace", place.workspace)
    # embed extends a gallery where it lies: that is no canary
    (place.given / "gallery").rename(place.workspace / "gallery")
    images = place.pristine / "people" / "images"
    photo = sorted((images / "query").iterdir())[0]
    own = place.workspace / "gallery"
    lines: list[Any] = [
        ("search", RUN, photo, own, *CPU), ("search", RUN, photo, own, "--through", "faiss", *CPU),
        ("search", RUN, photo, own, "--out", place.workspace / "found", *CPU),
        ("embed", RUN, images / "gallery", "--out", own, *CPU),
    ]  # fmt: skip
    return rng.sample(lines, 2)


KINDS = {
    "weights": weights, "safetensors": safetensors, "state": state, "npy": numbers,
    "gallery": gallery,
}  # fmt: skip
