from __future__ import annotations

import errno
import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts import atomic
from pipeline.datasets import unpack as unpacking
from pipeline.datasets.unpack import DamagedArchive, UnpackError, unpack
from pipeline.terminal.errors import ReidpipeError


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def special(path: Path, kind: bytes, **fields: object) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("data/evil")
        info.type = kind
        for name, value in fields.items():
            setattr(info, name, value)
        file.addfile(info)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive: Path, match: str, **limits: int) -> None:
    """The archive is refused in one line and nothing appears, inside the folder or beside it."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(UnpackError, match=match) as caught:
        unpack([archive], archive.parent / "out", **limits)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before


GOOD = {"data/a.jpg": b"a" * 5000, "data/deep/b.jpg": b"", "c.txt": b"c"}


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_format_is_found_by_content(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "any.bin"
    archive = make_zip(path, GOOD) if mode == "zip" else make_tar(path, GOOD, mode)
    unpack([archive], tmp_path / "deep" / "out")
    assert tree(tmp_path / "deep" / "out") == GOOD


def test_several_archives_share_a_folder_and_plain_files_are_copied(tmp_path: Path) -> None:
    images = make_tar(tmp_path / "images.tar.gz", {"images/a.jpg": b"a"}, "w:gz")
    labels = make_zip(tmp_path / "labels.zip", {"labels/a.png": b"l"})
    (tmp_path / "setid.mat").write_bytes(b"MATLAB")
    unpack([images, labels, tmp_path / "setid.mat"], tmp_path / "out")
    expected = {"images/a.jpg": b"a", "labels/a.png": b"l", "setid.mat": b"MATLAB"}
    assert tree(tmp_path / "out") == expected


def test_leftovers_of_desktops_are_skipped(tmp_path: Path) -> None:
    clutter = ["__MACOSX/data/._a.jpg", "data/._a.jpg", "data/Thumbs.db", "data/.DS_Store"]
    archive = make_zip(tmp_path / "a.zip", GOOD | dict.fromkeys(clutter, b"x"))
    unpack([archive], tmp_path / "out")
    assert tree(tmp_path / "out") == GOOD


@pytest.mark.parametrize(
    "name", ["../evil", "data/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil", "a/.."]
)
def test_paths_outside_are_refused(tmp_path: Path, name: str) -> None:
    refused(make_zip(tmp_path / "a.zip", {"good": b"", name: b"x"}), "outside the folder")
    refused(make_tar(tmp_path / "a.tar", {"good": b"", name: b"x"}), "outside the folder")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "..a", "\\", "/"]), max_size=6))
def test_no_name_leaves_the_folder(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("unpack")
    archive = make_tar(folder / "a.tar", {"/".join(parts): b"x"})
    try:
        unpack([archive], folder / "out")
    except UnpackError:
        assert sorted(folder.iterdir()) == [archive]
    else:
        assert sorted(folder.iterdir()) == [archive, folder / "out"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(special(tmp_path / "a.tar", kind, linkname="/etc/passwd"), "a link or device")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("evil")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    refused(tmp_path / "a.zip", "a link or device")


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    zeros = {f"{n}.bin": bytes(300_000) for n in range(4)}
    refused(make_zip(tmp_path / "a.zip", zeros), "more data", max_bytes=1_000_000)
    refused(make_tar(tmp_path / "a.tgz", zeros, "w:gz"), "more data", max_bytes=1_000_000)
    unpack([tmp_path / "a.zip"], tmp_path / "out", max_bytes=1_200_000)


def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_declares(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"bomb.bin": bytes(5_000_000)})
    data = bytearray(archive.read_bytes())
    real, lie = struct.pack("<L", 5_000_000), struct.pack("<L", 10)
    assert data.count(real) == 2  # local header and directory
    archive.write_bytes(data.replace(real, lie))
    refused(archive, "damaged archive", max_bytes=1000)


def test_the_default_limit_follows_the_archives_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "a.zip", {"zeros.bin": bytes(2_000_000)})
    monkeypatch.setattr(unpacking, "_SPARE", 1000)
    refused(archive, "more data")


def test_member_counts_are_limited(tmp_path: Path) -> None:
    members = {f"{n}.txt": b"" for n in range(20)}
    refused(make_zip(tmp_path / "a.zip", members), "more members", max_members=19)
    refused(make_tar(tmp_path / "a.tar", members), "more members", max_members=19)
    unpack([tmp_path / "a.tar"], tmp_path / "out", max_members=20)


@pytest.mark.parametrize(("name", "mode"), [("a.zip", ""), ("a.tar", "w"), ("a.tgz", "w:gz")])
def test_cut_archives_are_damaged(tmp_path: Path, name: str, mode: str) -> None:
    members = {f"{n}.bin": os.urandom(20_000) for n in range(5)}
    whole = tmp_path / name
    _ = make_zip(whole, members) if not mode else make_tar(whole, members, mode)
    whole.write_bytes(whole.read_bytes()[:70_000])
    refused(whole, "damaged archive|no whole zip or tar")


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.bin": os.urandom(20_000)})
    data = bytearray(archive.read_bytes())
    data[10_000] ^= 255
    archive.write_bytes(data)
    refused(archive, "damaged archive")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_flipped_bit_anywhere_in_a_compressed_tar_is_noticed(tmp_path: Path, mode: str) -> None:
    whole = make_tar(tmp_path / "whole", {"a.bin": os.urandom(20_000)}, mode).read_bytes()
    archive = tmp_path / "a.tar"
    # In the stored bytes and in the checksum at the very end (of gzip; the others end otherwise).
    for place in [5000, 15_000, *([len(whole) - 6] if mode == "w:gz" else [])]:
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(archive, "damaged archive|no whole zip or tar")


def test_what_lies_behind_the_last_member_counts(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    plain = make_tar(tmp_path / "a.tar", {"a": b"a"}).read_bytes()
    (tmp_path / "a.tar").unlink()
    archive.write_bytes(gzip.compress(plain + bytes(2_000_000)))
    refused(archive, "more data", max_bytes=1_000_000)
    unpack([archive], tmp_path / "out", max_bytes=3_000_000)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {"a": b"a" * 512, "b": b"b" * 512})
    data = bytearray(archive.read_bytes())
    data[1024] ^= 1  # the first letter of the name "b"
    archive.write_bytes(data)
    refused(archive, "damaged archive")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"inside.txt": b"z"})
    members = {"a.txt": b"a", "inner.zip": inner.read_bytes()}
    unpack([make_tar(tmp_path / "a.tar", members)], tmp_path / "out")
    assert tree(tmp_path / "out") == members


def test_a_zip_that_begins_with_a_tar_is_a_zip(tmp_path: Path) -> None:
    inner = make_tar(tmp_path / "inner.tar", {"inside.txt": b"t"}).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as file:
        file.writestr("inner.tar", inner)
    unpack([tmp_path / "a.zip"], tmp_path / "out")
    assert tree(tmp_path / "out") == {"inner.tar": inner}


def test_a_zip_with_a_broken_name_is_damaged(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"\u00e9\u00e9": b"x"})
    data = archive.read_bytes()
    assert data.count(b"\xc3\xa9") == 4
    archive.write_bytes(data.replace(b"\xc3\xa9", b"\xff\xa9"))
    refused(archive, "damaged archive")


def test_a_zip_that_points_before_its_start_is_damaged(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x"})
    data = bytearray(archive.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = struct.pack("<L", len(data) + 1000)  # where the directory starts
    archive.write_bytes(data)
    refused(archive, "damaged archive")


@pytest.mark.parametrize("name", ["n" * 256, "d" * 256 + "/a"])
def test_a_name_too_long_for_the_disk_is_refused(tmp_path: Path, name: str) -> None:
    refused(make_zip(tmp_path / "a.zip", {name: b"x"}), "a name this disk cannot hold")


def test_bytes_are_on_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[object] = []
    out = tmp_path / "out"
    monkeypatch.setattr(os, "sync", lambda: order.append(("bytes", out.exists())))
    monkeypatch.setattr(atomic, "flush_folder", lambda path: order.append((path, out.exists())))
    unpack([make_zip(tmp_path / "a.zip", GOOD)], out)
    assert order == [("bytes", False), (tmp_path, True)]


def test_a_web_page_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<!DOCTYPE html><html>quota exceeded</html>")
    refused(tmp_path / "a.zip", "found a web page")
    (tmp_path / "b.tar.gz").write_bytes(b"abc")
    refused(tmp_path / "b.tar.gz", "no whole zip or tar")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.bin": b"secret"})
    data = archive.read_bytes().replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    )
    archive.write_bytes(data)
    refused(archive, "an encrypted file")


def test_a_name_that_is_file_and_folder_is_refused(tmp_path: Path) -> None:
    refused(make_tar(tmp_path / "a.tar", {"a": b"", "a/b": b""}), "both file and folder")


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", GOOD)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpacking, "_write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        unpack([archive], tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, ReidpipeError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ReidpipeError, match="already"):
        unpack([make_zip(tmp_path / "a.zip", GOOD)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"Rar!\x1a\x07\x00", "RAR"), (b"Rar!\x1a\x07\x01\x00", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7z")],
)
@pytest.mark.parametrize("name", ["market.rar", "market.zip", "market"])
def test_an_archive_of_another_kind_is_not_called_damaged(
    tmp_path: Path, start: bytes, kind: str, name: str
):
    archive = tmp_path / name
    archive.write_bytes(start + bytes(200))
    refused(archive, f"found a {kind} archive.*unpack it yourself and type .*--root DIR")
    with pytest.raises(UnpackError) as caught:
        unpack([archive], tmp_path / "out")
    assert not isinstance(caught.value, DamagedArchive)  # which would be fetched again
