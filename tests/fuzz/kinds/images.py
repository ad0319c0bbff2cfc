"""Photographs, names and tables of strangers."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Place, Words
from tests.fuzz.damage import damaged
from tests.fuzz.pristine import CPU, RUN
from tests.fuzz.values import mutated, strange

_FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "TIFF",
    "WEBP",
    "PPM",
    "TGA",
    "PCX",
    "JPEG2000",
    "ICO",
    "MPO",
)
_NAMES = (
    b"\xff\xfe.jpg", b"a\nb.jpg", b"\x1b]0;owned\x07.jpg", b"x" * 250 + b".jpg", "\u202egpj.exe.jpg".encode(),
    b" .jpg", b"-rf.jpg", b"a'b\"c.jpg", b"0001_c1s1_000001_00.jpg", b".hidden.jpg", "é.jpg".encode(),
    "e\u0301.jpg".encode(), b"con.jpg", b"a.JPG", b"$(touch EXECUTED).jpg", b"a;b.jpg", b"%s%n.jpg",
    b"{pid}.jpg", b"99999999999999999999_c1.jpg", b"-1_c1.jpg", b"a\\b.jpg", b"\xed\xa0\x80.jpg",
)  # fmt: skip


def photograph(rng: random.Random, kind: str = "JPEG", **options: Any) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.frombuffer(rng.randbytes(32 * 16 * 3), np.uint8).reshape(32, 16, 3)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def _png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _image(rng: random.Random, place: Place) -> tuple[bytes, str]:
    way = rng.randrange(16)
    if way < 6:
        kind = rng.choice(_FORMATS)
        data, about = damaged(rng, photograph(rng, kind))
        return data, f"{kind} {about}"
    if way == 6:
        side = rng.choice((2**31 - 1, 2**32 - 1, 60_000, 0))
        return _png(side, side, zlib.compress(b"\0" * 1000)), f"a PNG of {side}x{side}"
    if way == 7:
        return _png(20_000, 20_000, zlib.compress(b"\0" * (60_001 * 2_000), 9)), "a PNG bomb"
    if way == 8:
        frames: list[Any] = []
        from PIL import Image

        frames = [Image.new("RGB", (16, 32), (n, n, n)) for n in range(40)]
        out = io.BytesIO()
        kind = rng.choice(("GIF", "TIFF", "WEBP", "PNG"))
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        return out.getvalue(), f"{kind} of 40 pages"
    if way == 9:
        return photograph(
            rng, exif=b"Exif\0\0" + rng.randbytes(rng.choice((4, 300)))
        ), "EXIF rubbish"
    if way == 10:
        return photograph(rng, icc_profile=rng.randbytes(3000)), "ICC rubbish"
    if way == 11:
        marker = str(place.executed)
        texts = (
            f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile\nshowpage\n",
            "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "%PDF-1.4\n1 0 obj\n",
            f"push graphic-context\nimage over 0,0 0,0 '|touch {marker}'\n", "<html></html>", "GIF89a", "II*\0",
        )  # fmt: skip
        return rng.choice(texts).encode(), "another language"
    if way == 12:
        return b"", "nothing"
    if way == 13:
        return zlib.compress(b"\0" * 10_000_000), "a deflated stream"
    if way == 14:
        head = b"II*\0\x08\0\0\0"
        entries = struct.pack("<H", 3) + b"".join(
            struct.pack("<HHII", tag, 4, 1, rng.choice((2**32 - 1, 2**31, 8)))
            for tag in (256, 257, 273)
        )
        return head + entries + struct.pack("<I", 8), "TIFF directories in a circle"
    return rng.randbytes(4096), "noise"


def photographs(rng: random.Random, place: Place) -> Case:
    """A folder with strange images among good ones."""
    root = place.given / "photos"
    root.mkdir()
    for number in range(4):
        (root / f"{number:04d}_c{number % 2 + 1}.jpg").write_bytes(photograph(rng))
    told = []
    for number in range(rng.choice((1, 1, 2))):
        data, about = _image(rng, place)
        name = rng.choice((f"{number}.jpg", f"0009_c1_{number}.png", f"{number}.tif"))
        (root / name).write_bytes(data)
        told.append(about)
    if rng.random() < 0.1:
        (root / "folder.jpg").mkdir()
        (root / "loop.jpg").symlink_to("loop.jpg")
        told.append("a folder and a loop called .jpg")
    strange_one = sorted(
        p for p in root.iterdir() if not p.name[:4].isdecimal() or p.name.startswith("0009")
    )[0]
    return Case("; ".join(told), _seen(rng, place, root, strange_one))


def _seen(rng: random.Random, place: Place, root: Path, one: Path) -> list[Words]:
    lines: list[Words] = [("prepare", "folder:own", "--root", root, "--size", "32x16")]
    if rng.random() < 0.4:
        shutil.rmtree(place.workspace)
        shutil.copytree(place.pristine / "workspace", place.workspace)
        lines.append(
            rng.choice(
                (
                    ("embed", RUN, root, "--out", place.workspace / "g", *CPU),
                    ("score", RUN, one, one, *CPU),
                    ("search", RUN, one, root, *CPU),
                    ("classify", "zero-shot-tiny", "--dataset", root, *CPU),
                )  # fmt: skip
            )
        )
    return lines


def names(rng: random.Random, place: Place) -> Case:
    """Names of files and folders that are no text, or act on a terminal."""
    root = os.fsencode(place.given / "photos")
    os.mkdir(root)
    chosen = rng.sample(_NAMES, 3)
    for number, name in enumerate(chosen):
        name = name.replace(b"EXECUTED", os.path.basename(os.fsencode(place.executed)))
        folder = rng.choice((b"", b"train/", b"a\nb/", b"\xff/", b"query/", "\u202e/".encode()))
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        with open(os.path.join(root, folder, name), "wb") as file:  # noqa: PTH123
            file.write(photograph(rng) if number or rng.random() < 0.6 else b"damaged")
    return Case(ascii(chosen), _seen(rng, place, Path(os.fsdecode(root)), _first(root)))


def _first(root: bytes) -> Path:
    found = [os.path.join(p, n) for p, _, ns in os.walk(root) for n in ns]
    return Path(os.fsdecode(sorted(found)[0]))


def tables(rng: random.Random, place: Place) -> Case:
    """A table of images: CSV, TSV, JSON, and what only looks like one."""
    root = place.given / "own"
    root.mkdir()
    for number in range(4):
        (root / f"{number}.jpg").write_bytes(photograph(rng))
    columns = ["path", "split", "pid", "camid", "frame", "extra"]
    rows: list[list[Any]] = [
        [f"{n}.jpg", ("train", "train", "query", "gallery")[n], n // 2, n % 2, n, "x"]
        for n in range(4)
    ]
    about = "cells"
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = rng.choice((strange(rng), "../0.jpg", "/etc/passwd", "0.jpg\0", "C:\\0.jpg", '"', "''", "1e400", "٣", "²", "9" * 30, "=cmd()", "0.jpg\r", "NaN", "1,2"))  # fmt: skip
        rng.choice([columns, *rows])[rng.randrange(6)] = str(value)[:10_000]
    separator = rng.choice((",", ",", ";", "\t", "|", ", "))
    text = "\n".join(separator.join(map(str, line)) for line in [columns, *rows]) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    way = rng.randrange(14)
    if way == 0:
        data, about = (
            text.encode(rng.choice(("utf-16", "utf-32", "cp037", "utf-7")), "replace"),
            "encoding",
        )
    elif way == 1:
        data, about = damaged(rng, data)
    elif way == 2:
        data, about = data + b'"' + b"x" * 1_000_000, "a million characters in quotes"
    elif way == 3:
        data, about = data.replace(b"0.jpg", b"\0.jpg"), "a null"
    elif way == 4:
        images = [
            {"id": n, "file_name": f"{n}.jpg", "height": 32, "width": 16} for n in range(20_000)
        ]
        data, about = json.dumps({"images": images, "annotations": []}).encode(), "COCO"
    elif way == 5:
        changed, about = mutated(rng, [{"path": f"{n}.jpg", "pid": n} for n in range(4)])
        data = json.dumps(changed, default=str).encode("utf-8", "surrogatepass")
    elif way == 6:
        data, about = b"PAR1" + rng.randbytes(200) + b"PAR1", "parquet"
    elif way == 7:
        data, about = b"," * 1_000_000 + b"\n", "a million fields"
    elif way == 8:
        data, about = b"path\n" + b"0.jpg\n" * 50_000, "one image 50000 times"
    path = root / rng.choice(("t.csv", "t.csv", "t.tsv", "t.txt", "t.json", "t.xlsx", "t.parquet"))
    path.write_bytes(data)
    lines: list[Words] = [("prepare", "folder:own", "--root", path, "--size", "32x16")]
    if rng.random() < 0.3:
        lines.append(("classify", "zero-shot-tiny", "--dataset", path, *CPU))
    return Case(f"{path.name} {about}", lines)


KINDS = {"image": photographs, "name": names, "table": tables}
