"""Archives of strangers, and CUHK03's .mat files."""

from __future__ import annotations

import io
import random
import stat
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Place
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.images import photograph


def _member(rng: random.Random, place: Place) -> str:
    return rng.choice(
        (
            "../evil",
            "../../sibling/evil",
            str(place.sibling / "evil"),
            "a/../../../home/evil",
            "..\\..\\evil",
            "C:\\evil",
            "a\nb.jpg",
            "\x1b[2J.jpg",
            "x" * 300,
            "a/" * 300 + "x",
            "",
            ".",
            "a\0b",
            "ok/0001_c1s1_000001_00.jpg",
            "query/0001_c1s1_000001_00.jpg",
            "con",
            "\u202e",
            "/",
            "//evil",
            "~/evil",
        )  # fmt: skip
    )


def archives(rng: random.Random, place: Place) -> Case:
    """``prepare --archive``: zip and tar that leave their folder, lie about sizes or are bombs."""
    path = place.given / rng.choice(("AG-ReID.v2.zip", "a.zip", "a.tar", "a.tar.gz", "a.tgz"))
    photo = photograph(rng)
    usual = [f"{folder}/{n:04d}_c{n % 2 + 1}s1_000001_00.jpg" for n in range(3) for folder in ("train_all", "query", "gallery")]  # fmt: skip
    if path.name.endswith(".zip") or rng.random() < 0.3:
        about = _zip(rng, place, path, usual, photo)
    else:
        about = _tar(rng, place, path, usual, photo)
    if rng.random() < 0.3:
        data, more = damaged(rng, path.read_bytes())
        path.write_bytes(data)
        about += f"; {more}"
    kind = rng.choice(("agreid_v2", "folder:own", "market1501", "agreid_v2"))
    return Case(f"{path.name} {about}", [("prepare", kind, "--archive", path, "--size", "32x16")])


def _zip(rng: random.Random, place: Place, path: Path, usual: list[str], photo: bytes) -> str:
    way = rng.randrange(8)
    name = _member(rng, place)
    about = f"zip {ascii(name)[:50]}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in usual:
            file.writestr(member, photo)
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        if way == 1:
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            about += " a link"
            file.writestr(info, str(place.sibling))
            file.writestr(f"{name}/evil", b"x")
        elif way == 2:
            info.external_attr = (
                rng.choice((stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)) | 0o777
            ) << 16
            about += " a device"
            file.writestr(info, b"")
        elif way == 3:
            about = "zip bomb"
            file.writestr("bomb.jpg", b"\0" * (60 << 20))
        elif way == 4:
            about = "zip with a name twice"
            file.writestr(usual[0], b"other")
            file.writestr(usual[0] + "/x", b"both")
        else:
            file.writestr(info, b"x")
    if way == 5:
        data = bytearray(path.read_bytes())
        at = data.find(b"PK\1\2")
        data[at + 8] |= 1
        data[6] |= 1
        path.write_bytes(bytes(data))
        about = "zip encrypted"
    elif way == 6:
        data = bytearray(path.read_bytes())
        at = data.rfind(b"PK\1\2")
        data[at + 24 : at + 28] = struct.pack("<I", rng.choice((2**32 - 2, 0, 1)))
        path.write_bytes(bytes(data))
        about = "zip that lies about a size"
    return about


def _tar(rng: random.Random, place: Place, path: Path, usual: list[str], photo: bytes) -> str:
    name = _member(rng, place)
    kind = rng.choice((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"9"))  # fmt: skip
    mode: Any = rng.choice(("w", "w:gz", "w:bz2", "w:xz"))
    with tarfile.open(path, mode) as file:
        for member in usual:
            info = tarfile.TarInfo(member)
            info.size = len(photo)
            file.addfile(info, io.BytesIO(photo))
        info = tarfile.TarInfo(name.replace("\0", "") or "x")
        info.type, info.linkname = (
            kind,
            rng.choice((str(place.sibling), "../../..", name.replace("\0", ""), "")),
        )
        info.size = rng.choice((0, 1)) if kind == tarfile.REGTYPE else 0
        try:
            file.addfile(info, io.BytesIO(b"x"))
            inside = tarfile.TarInfo(f"{info.name}/evil")
            inside.size = 1
            file.addfile(inside, io.BytesIO(b"x"))
        except ValueError:
            pass
    return f"tar {mode} {kind!r} {ascii(name)[:40]}"


def matlab(rng: random.Random, place: Place) -> Case:
    """CUHK03's .mat files, as v7.3 and v5."""
    from tests import trees

    root = trees.cuhk03_original(place.given)
    path = rng.choice(sorted(p for p in root.rglob("*.mat") if "labeled" not in p.name))
    way = rng.randrange(4)
    if way < 2:
        data, about = damaged(rng, path.read_bytes())
        path.write_bytes(data)
    elif way == 2:
        about = _hdf5(rng, root / "cuhk03_release" / "cuhk-03.mat")
    else:
        about = _v5(rng, root / "cuhk03_new_protocol_config_detected.mat")
    return Case(
        f"{path.name} {about}",
        [("prepare", "cuhk03_np:detected", "--root", root, "--size", "32x16")],
    )


def _hdf5(rng: random.Random, path: Path) -> str:
    import h5py
    import numpy as np

    opened: Any = h5py.File(path, "a")
    with opened as file:
        way = rng.randrange(8)
        cell = "#refs#/detected1_1_0"
        if way in (0, 1, 2, 3):
            del file[cell]
        if way == 0:
            file[cell] = np.zeros((3, 12), "f4")
        elif way == 1:
            file[cell] = np.zeros(rng.choice(((5, 12, 20), (1, 4, 4), (3, 0, 4), (3, 12, 20))), rng.choice(("f4", "u2", "i8", "S3")))  # fmt: skip
        elif way == 2:
            file[cell] = h5py.ExternalLink("/etc/passwd", "/x")
        elif way == 3:
            file.create_dataset(cell, (3, 10**6, 10**6), "u1", chunks=True)
        elif way == 4:
            del file["detected"]
            file["detected"] = rng.choice(
                (np.zeros(3), np.zeros((1, 2), "O" if False else "u1"), np.array(5))
            )
        elif way == 5:
            del file["detected"]
            file.create_group("detected")["x"] = h5py.SoftLink("/detected")
        elif way == 6:
            del file["#refs#/detected1"]
            file["#refs#/detected1"] = np.zeros((10, 2))
        else:
            file["detected"][0, 0] = h5py.Reference()
    return f"HDF5 way {way}"


def _v5(rng: random.Random, path: Path) -> str:
    import numpy as np
    from scipy.io import loadmat, savemat

    content = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    key = rng.choice(sorted(content))
    content[key] = rng.choice(
        (
            np.zeros((3, 1)),
            np.array([["x"]]),
            np.array([[1.5], [np.nan]]),
            np.array([[10**9]]),
            np.zeros((0, 0)),
            np.array([[-1]]),
            {"a": 1},
            np.array([["../../x.png"], ["1_001_1_01.png"]], object),
            np.array([[1 + 2j]]),
        )  # fmt: skip
    )
    savemat(path, content)
    return f"{key} of another kind"


KINDS = {"archive": archives, "matlab": matlab}
