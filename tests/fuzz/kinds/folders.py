"""Hugging Face folders of parsers, and label maps as HDF5."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Place
from tests.fuzz.damage import damaged, flipped
from tests.fuzz.pristine import CPU, DATASET
from tests.fuzz.values import as_json, mutated, strange

_LIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("config.json", {"num_labels": 10**9, "id2label": None}),
    ("config.json", {"num_labels": 10**9}), ("config.json", {"num_labels": -1, "id2label": None}),
    ("config.json", {"num_labels": "x", "id2label": None}),
    ("config.json", {"id2label": {"0": "background", str(10**9): "hat"}}),
    ("config.json", {"id2label": ["background", "hat"]}), ("config.json", {"id2label": 5}),
    ("config.json", {"hidden_sizes": [10**6] * 4}), ("config.json", {"depths": [10**6] * 4}),
    ("config.json", {"depths": [0, 0, 0, 0]}), ("config.json", {"num_channels": 10**9}),
    ("config.json", {"num_encoder_blocks": 10**6}), ("config.json", {"decoder_hidden_size": 10**9}),
    ("config.json", {"model_type": "bert"}), ("config.json", {"model_type": "../../x"}),
    ("config.json", {"model_type": ["segformer"]}), ("config.json", {"architectures": [5]}),
    ("config.json", {"architectures": "x"}), ("config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    ("config.json", {"torch_dtype": "nothing"}), ("config.json", {"dtype": "float16"}),
    ("config.json", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
    ("config.json", {"hidden_act": "nothing"}), ("config.json", {"num_attention_heads": [0, 0, 0, 0]}),
    ("config.json", {"attn_implementation": "flash_attention_2"}), ("config.json", {"sr_ratios": [0, 0, 0, 0]}),
    ("preprocessor_config.json", {"size": {"height": 10**9, "width": 10**9}}),
    ("preprocessor_config.json", {"size": {"shortest_edge": 10**9}}), ("preprocessor_config.json", {"size": 0}),
    ("preprocessor_config.json", {"size": {"height": -5, "width": 5}}), ("preprocessor_config.json", {"size": "x"}),
    ("preprocessor_config.json", {"image_std": [-1, 0, 1]}), ("preprocessor_config.json", {"image_std": [0, 0, 0]}),
    ("preprocessor_config.json", {"image_mean": ["x", 1, 2]}), ("preprocessor_config.json", {"rescale_factor": 0}),
    ("preprocessor_config.json", {"rescale_factor": "x"}), ("preprocessor_config.json", {"resample": [2]}),
    ("preprocessor_config.json", {"rescale_factor": -1}), ("preprocessor_config.json", {"image_mean": [float("nan")] * 3}),
    ("preprocessor_config.json", {"size": {"height": 1, "width": 1}}),
)  # fmt: skip


def huggingface(rng: random.Random, place: Place) -> Case:
    """``parse --model hf:FOLDER`` where config, processor or weights lie."""
    shutil.rmtree(place.workspace)
    shutil.copytree(place.pristine / "workspace", place.workspace)
    folder = place.given / "model"
    shutil.copytree(place.pristine / "hf", folder)
    way = rng.random()
    if way < 0.45:
        name, change = rng.choice(_LIES)
        value = json.loads((folder / name).read_text()) | change
        (folder / name).write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
        about = f"{name} {change}"
        if "auto_map" in change:
            (folder / "evil.py").write_text(
                f"open({str(place.executed)!r}, 'w')\nclass Evil: pass\n"
            )
    elif way < 0.75:
        path = folder / rng.choice(("config.json", "preprocessor_config.json"))
        changed, about = mutated(rng, json.loads(path.read_text()))
        path.write_bytes(as_json(rng, changed))
        about = f"{path.name}: {about}"
    else:
        path = folder / "model.safetensors"
        about = _weights(rng, path)
    return Case(about, [("parse", DATASET, "--model", f"hf:{folder}", "--workers", "1", *CPU)])


def _weights(rng: random.Random, path: Path) -> str:
    from safetensors.torch import load_file, save_file

    way = rng.randrange(4)
    if way == 0:
        data, about = damaged(rng, path.read_bytes())
        path.write_bytes(data)
        return about
    if way == 1:
        path.unlink()
        index = {
            "weight_map": rng.choice(
                (strange(rng), {"a": "../../x"}, {"a": "/etc/passwd"}, {"a": 5}, {})
            )
        }
        path.with_name("model.safetensors.index.json").write_text(
            json.dumps(rng.choice((index, strange(rng))), default=str)
        )
        return "an index of shards"
    state = load_file(path)
    key = rng.choice(sorted(state))
    if way == 2:
        del state[key]
        about = f"no {key}"
    else:
        state[key] = rng.choice((state[key][:0], state[key][None], state[key] * float("nan")))
        about = f"{key} {tuple(state[key].shape)}"
    path.unlink()
    save_file({k: v.contiguous() for k, v in state.items()}, path, {"format": "pt"})
    return about


def _build(rng: random.Random, path: Path) -> str:
    """A shard of maps with one thing about it that is not as it is written."""
    import h5py
    import numpy as np

    from pipeline.labels.sets import LIP

    count, size = 3, (16, 8)
    label = np.zeros((count, *size), "u1")
    import zlib

    sets: dict[str, Any] = {
        "label": label, "confidence": label + 15, "key": np.array([b"a", b"b", b"c"]),
        "source_size": np.full((count, 2), 8, "u2"), "source_digest": np.zeros((count, 16), "u1"),
        "checksum": np.array([zlib.crc32(m.tobytes()) for m in label], "u4"),
    }  # fmt: skip
    attributes: dict[str, Any] = {
        "complete": 1, "images": count, "schema": 1, "label_set": json.dumps(LIP.to_json()),
    }  # fmt: skip
    name = rng.choice(sorted(sets))
    way = rng.randrange(14)
    about = f"{name} way {way}"
    outside = path.parent / "outside.h5"
    with h5py.File(outside, "w") as other:
        other["x"] = sets[name]
    (path.parent / "raw.bin").write_bytes(b"\7" * 4096)
    with h5py.File(path, "w", track_order=rng.random() < 0.2) as file:
        for each, values in sets.items():
            if each == name and way in (0, 1, 2, 3, 4, 5, 6):
                continue
            chunks = (1, *values.shape[1:]) if values.ndim == 3 else None
            file.create_dataset(
                each, data=values, chunks=chunks, compression="gzip" if chunks else None
            )
        values = sets[name]
        if way == 0:
            file[name] = h5py.ExternalLink("outside.h5", "/x")
        elif way == 1:
            file[name] = h5py.SoftLink("/nowhere" if rng.random() < 0.5 else "/label")
        elif way == 2:
            kind = values.dtype if values.dtype.kind != "S" else np.dtype("S1")
            file.create_dataset(
                name, values.shape, kind, external=[(str(path.parent / "raw.bin"), 0, 4096)]
            )
        elif way == 3:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[:] = h5py.VirtualSource(str(outside), "x", values.shape)
            file.create_virtual_dataset(name, layout)
        elif way == 4:
            kind = rng.choice(
                (
                    "f4",
                    "i8",
                    "O",
                    "bool",
                    "c8",
                    h5py.ref_dtype,
                    h5py.vlen_dtype("i4"),
                    [("a", "i4")],
                )
            )
            file.create_dataset(name, values.shape, h5py.string_dtype() if kind == "O" else kind)
            about = f"{name} of {kind}"
        elif way == 5:
            shape = rng.choice(
                (
                    (0,),
                    (),
                    (count,),
                    (10**6, *values.shape[1:]),
                    (count, 10**5, 10**5),
                    (count, 0, 0),
                    (2**40, 1, 1),
                )
            )
            file.create_dataset(
                name,
                shape,
                values.dtype if values.dtype.kind != "S" else "S1",
                chunks=True if 0 not in shape and shape else None,
            )
            about = f"{name} of shape {shape}"
        elif way == 6:
            if rng.random() < 0.5:
                file.create_group(name)[name] = h5py.SoftLink(f"/{name}")
            else:
                file[f"types/{name}"] = np.dtype("i4")
                file[name] = file[f"types/{name}"]
        elif way == 7:
            key = rng.choice(sorted(attributes))
            attributes[key] = rng.choice(
                (
                    0,
                    -1,
                    "x",
                    10**9,
                    2.5,
                    np.zeros(3),
                    h5py.Empty("f4"),
                    b"\xff",
                    "[" * 50_000,
                    "{}",
                    "[1]",
                    '{"names": 5}',
                    np.array("x", h5py.string_dtype()),
                    True,
                )
            )
            about = f"attribute {key} is {str(attributes[key])[:40]!r}"
        elif way == 8:
            key = rng.choice(sorted(attributes))
            del attributes[key]
            about = f"no attribute {key}"
        elif way == 9:
            changed, about = mutated(rng, LIP.to_json())
            attributes["label_set"] = json.dumps(changed, default=str)
        elif way == 10:
            del file["label"]
            options = rng.choice(
                (
                    {"compression": "lzf"},
                    {"fletcher32": True},
                    {"shuffle": True, "compression": "gzip"},
                    {"chunks": (count, *size)},
                    {"scaleoffset": 4},
                )
            )
            made = file.create_dataset("label", data=label, **({"chunks": (1, *size)} | options))
            about = f"filters {options}"
            if rng.random() < 0.5:
                made.id.write_direct_chunk((0, 0, 0), b"xx", rng.choice((0, 1, 3)))
        elif way == 11:
            what = rng.choice(
                (
                    b"y",
                    b"x",
                    zlib.compress(b"\0" * 10**7),
                    zlib.compress(b"\0" * 5),
                    zlib.compress(b"\0" * 127) + b"x",
                )
            )
            file[rng.choice(("label", "confidence"))].id.write_direct_chunk(
                (rng.randrange(count), 0, 0), what
            )
            about = f"a chunk of {len(what)} bytes"
        elif way == 12:
            del file["key"]
            file["key"] = np.array(
                rng.choice(
                    (
                        [b"a", b"a", b"b"],
                        [b"\xff", b"b", b"c"],
                        [b"", b"b", b"c"],
                        [b"../../x", b"b", b"c"],
                    )
                )
            )
            about = "keys"
        else:
            whole: Any = file["label"]
            whole[0] = 255
            about = "labels beyond the set"
        for key, value in attributes.items():
            try:
                file.attrs[key] = value
            except Exception:  # noqa: BLE001 - too large for an attribute
                file.attrs[key] = 1
    return about


def maps(rng: random.Random, place: Place) -> Case:
    """A shard of label maps, read as every reader does: what is read is what was written."""
    import numpy as np

    path = place.given / "maps-00000.h5"
    if rng.random() < 0.45:
        source = next((place.pristine / "workspace").glob("artifacts/maps/*/maps-00000.h5"))
        data = source.read_bytes()
        if rng.random() < 0.5:
            data, at = flipped(rng, data)
            about = f"a bit of byte {at}"
        else:
            data, about = damaged(rng, data)
        path.write_bytes(data)
    else:
        source = None
        about = _build(rng, path)

    def read() -> None:
        from pipeline.labels.maps import LabelMapReader
        from pipeline.labels.shards import check_shard
        from pipeline.terminal.errors import ReidpipeError

        with contextlib.suppress(ReidpipeError):
            check_shard(path)
        reader = LabelMapReader(path.parent)
        truth = None if source is None else LabelMapReader(source.parent)
        assert reader.label_set.names
        for key in list(reader)[:40]:
            label, sure = reader[key]
            _ = reader.source_size(key), reader.source_digest(key)
            assert label.shape == sure.shape == reader.size
            # A bit of a key makes another key; of a map it is found.
            if truth is not None and key in truth:
                assert np.array_equal(label, truth[key][0]), f"another map of {key}"

    return Case(about, read=read)


KINDS = {"hf": huggingface, "maps": maps}
