"""A packed bundle: the same bytes each time, and whatever else a file can hold is refused without a trace."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError
from monograph.bundle import archive, open_bundle
from monograph.bundle.archive import pack_bundle, unpack_bundle

TAR = shutil.which("tar") or "tar"
Edit = Callable[[Callable[[dict[str, Any]], object]], None]


@pytest.fixture(scope="session")
def packed(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_bundle(tiny_bundle, tmp_path_factory.mktemp("packed") / "bundle.tar")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_refused(file: Path, tmp_path: Path, *words: str) -> None:
    """Unpacking is a BundleError of one line with these words, and leaves nothing in the output's folder."""
    place = tmp_path / "place"
    place.mkdir(exist_ok=True)
    with pytest.raises(BundleError) as caught:
        unpack_bundle(file, place / "bundle")
    message = str(caught.value)
    assert caught.value.bundle == str(file)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert list(place.iterdir()) == []


def members_of(bundle: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members that a right archive has, to be changed by a test."""
    names = ["manifest.json", *open_bundle(bundle).manifest.files]
    members = []
    for name in names:
        content = (bundle / name).read_bytes()
        member = tarfile.TarInfo(name)
        member.size = len(content)
        members.append((member, content))
    return members


def write_tar(file: Path, members: list[tuple[tarfile.TarInfo, bytes]], tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(file, "w", format=tar_format) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return file


def test_what_is_unpacked_is_what_was_packed(packed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = unpack_bundle(packed, tmp_path / "bundle")
    assert folder == tmp_path / "bundle"
    assert files_of(folder) == files_of(tiny_bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_same_bundle_packs_to_the_same_bytes(packed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_bundle, tmp_path / "copied", copy_function=shutil.copyfile))
    for path in copied.iterdir():
        path.chmod(0o600)
    assert pack_bundle(copied, tmp_path / "second.tar").read_bytes() == packed.read_bytes()


def test_it_is_a_plain_tar_without_traces_of_this_machine(packed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(packed, "r:") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["manifest.json", *open_bundle(tiny_bundle).manifest.files]
    for member in members:
        owner = (member.uid, member.gid, member.uname, member.gname)
        assert (member.mtime, member.mode, owner, member.isreg()) == (0, 0o644, (0, 0, "", ""), True)
    assert packed.read_bytes()[257:265] == b"ustar\x0000"
    subprocess.run([TAR, "-xf", packed, "-C", tmp_path], check=True)
    assert files_of(tmp_path) == files_of(tiny_bundle)


def test_what_tar_itself_writes_is_unpacked_as_well(tiny_bundle: Path, tmp_path: Path) -> None:
    names = ["manifest.json", *sorted(open_bundle(tiny_bundle).manifest.files)]
    subprocess.run([TAR, "-cf", tmp_path / "by-hand.tar", "-C", tiny_bundle, *names], check=True)
    assert files_of(unpack_bundle(tmp_path / "by-hand.tar", tmp_path / "bundle")) == files_of(tiny_bundle)


def test_a_file_beyond_ustar_has_a_header_that_tar_reads(tmp_path: Path) -> None:
    """9 GB that take no room: a file with a hole, and a tar in which only its header is written."""
    large = tmp_path / "model.onnx.data"
    with large.open("wb") as file:
        file.truncate(9 * 10**9)

    class Enough(Exception):  # noqa: N818
        pass

    class Header(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell():
                raise Enough
            return super().write(content)

    header = Header()
    with pytest.raises(Enough):
        archive._append(header, large)
    member = tarfile.TarInfo.frombuf(header.getvalue(), "utf-8", "strict")
    assert (member.name, member.size, member.isreg()) == (large.name, 9 * 10**9, True)


def test_a_damaged_bundle_is_not_packed(bundle_copy: Path, tmp_path: Path) -> None:
    weights = bundle_copy / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx\.data was changed"):
        pack_bundle(bundle_copy, tmp_path / "bundle.tar")
    assert not (tmp_path / "bundle.tar").exists()


def test_nothing_is_packed_over(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "link"):
        with pytest.raises(BundleError, match="exists already"):
            pack_bundle(tiny_bundle, tmp_path / name)
    with pytest.raises(BundleError, match=r"there is no folder .*absent: make it first"):
        pack_bundle(tiny_bundle, tmp_path / "absent" / "bundle.tar")
    assert (tmp_path / "there").read_text() == "mine"


def test_nothing_is_unpacked_over(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to("full")
    for name in ("full", "full/file", "link"):
        with pytest.raises(BundleError, match="exists already"):
            unpack_bundle(packed, tmp_path / name)
    with pytest.raises(BundleError, match=r"there is no folder .*absent: make it first"):
        unpack_bundle(packed, tmp_path / "absent" / "bundle")
    (tmp_path / "empty").mkdir()
    open_bundle(unpack_bundle(packed, tmp_path / "empty"), "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"no tar", b"x" * 5000, bytes(10240), b"\x1f\x8b" + b"x" * 600])
def test_a_file_that_is_no_tar_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert_refused(tmp_path / "file", tmp_path, "monograph pack")


def test_a_compressed_archive_is_refused(packed: Path, tmp_path: Path) -> None:
    import gzip

    (tmp_path / "bundle.tar.gz").write_bytes(gzip.compress(packed.read_bytes()))
    assert_refused(tmp_path / "bundle.tar.gz", tmp_path, "monograph pack")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path, "cannot be unpacked")
    assert_refused(tmp_path / "absent.tar", tmp_path, f"there is no file {tmp_path / 'absent.tar'}")


def test_the_output_of_pack_is_looked_at_before_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no folder .*absent: make it first"):
        pack_bundle(tmp_path / "no-bundle", tmp_path / "absent" / "bundle.tar")


@pytest.mark.parametrize("retained", [100, 511, 512, 1000, 0.3, 0.9, -10240])
def test_an_archive_that_is_cut_short_is_refused(retained: float, packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()
    size = int(len(content) * retained) if isinstance(retained, float) else retained
    (tmp_path / "cut.tar").write_bytes(content[:size])
    assert_refused(tmp_path / "cut.tar", tmp_path, "truncated")


def test_an_archive_without_its_end_is_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.tar").write_bytes(packed.read_bytes()[:-1024])
    assert_refused(tmp_path / "cut.tar", tmp_path, "truncated")


@pytest.mark.parametrize("position", [0.2, 0.5, 0.95])
def test_a_flipped_byte_is_detected(position: float, packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[int(len(content) * position)] ^= 1
    (tmp_path / "flipped.tar").write_bytes(content)
    assert_refused(tmp_path / "flipped.tar", tmp_path, "was changed")


NAMES = ("../beside", "/etc/beside", "sub/file", "..", "a\nb", "c:file", "a\\b", ".")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("listed", [True, False])
def test_a_name_that_could_leave_the_folder_is_refused(
    name: str, listed: bool, bundle_copy: Path, edit_manifest: Edit, tmp_path: Path
) -> None:
    members = members_of(bundle_copy)
    if listed:
        edit_manifest(lambda value: value["files"].update({name: {"bytes": 4, "sha256": "0" * 64}}))
        content = (bundle_copy / "manifest.json").read_bytes()
        members[0][0].size = len(content)
        members[0] = (members[0][0], content)
    extra = tarfile.TarInfo(name)
    extra.size = 4
    assert_refused(write_tar(tmp_path / "x.tar", [*members, (extra, b"evil")]), tmp_path, "not a plain file name")
    assert not (tmp_path / "beside").exists()


TYPES = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "folder": tarfile.DIRTYPE,
    "pipe": tarfile.FIFOTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "contiguous file": tarfile.CONTTYPE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "pax header": tarfile.XHDTYPE,
    "global pax header": tarfile.XGLTYPE,
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "more"])
def test_what_is_no_regular_file_is_refused(kind: str, name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    members = members_of(tiny_bundle)
    position = next((at for at, (member, _) in enumerate(members) if member.name == name), len(members))
    wrong = tarfile.TarInfo(name)
    wrong.type = TYPES[kind]
    wrong.linkname = str(tiny_bundle / "tokenizer.json")
    members[position : position + 1] = [(wrong, b"")]
    content = b"".join(member.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512) for member, body in members)
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    assert_refused(tmp_path / "x.tar", tmp_path, "is not a")


def test_members_that_the_manifest_does_not_list_once_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    members = members_of(tiny_bundle)
    more = tarfile.TarInfo("more.bin")
    more.size = 4
    for wrong in ([*members, (more, b"more")], [*members, members[2]], [members[0], *members]):
        assert_refused(
            write_tar(tmp_path / "x.tar", wrong), tmp_path, "twice, or is not a file that its manifest lists"
        )
    assert_refused(write_tar(tmp_path / "x.tar", members[:-1]), tmp_path, f"{members[-1][0].name} is missing")
    for wrong in (members[1:], members[::-1]):
        assert_refused(write_tar(tmp_path / "x.tar", wrong), tmp_path, "first file is not manifest.json")


def test_a_size_other_than_the_manifests_is_refused_before_it_is_written(tiny_bundle: Path, tmp_path: Path) -> None:
    members = members_of(tiny_bundle)
    members[1][0].size += 1
    members[1] = (members[1][0], members[1][1] + b"x")
    assert_refused(write_tar(tmp_path / "x.tar", members), tmp_path, f"{members[1][0].name} has", "instead of")


@pytest.mark.parametrize("size", [-1, -(2**40), 2**62])
def test_a_size_that_no_file_has_is_refused(size: int, tiny_bundle: Path, tmp_path: Path) -> None:
    members = members_of(tiny_bundle)
    for position in (0, 1):
        member = tarfile.TarInfo(members[position][0].name)
        member.size = size
        header = member.tobuf(tarfile.GNU_FORMAT)
        before = b"".join(
            entry.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512) for entry, body in members[:position]
        )
        (tmp_path / "x.tar").write_bytes(before + header + bytes(4096))
        assert_refused(tmp_path / "x.tar", tmp_path)


def test_a_manifest_of_negative_sizes_writes_nothing(bundle_copy: Path, edit_manifest: Edit, tmp_path: Path) -> None:
    edit_manifest(lambda value: value["files"]["tokenizer.json"].update(bytes=-1))
    with pytest.raises(BundleError):
        pack_bundle(bundle_copy, tmp_path / "x.tar")
    content = (bundle_copy / "manifest.json").read_bytes()
    manifest, wrong = tarfile.TarInfo("manifest.json"), tarfile.TarInfo("tokenizer.json")
    manifest.size, wrong.size = len(content), -1
    header = manifest.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    (tmp_path / "x.tar").write_bytes(header + wrong.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert_refused(tmp_path / "x.tar", tmp_path, "not a regular file")


@pytest.mark.parametrize("content", [b"{}", b"[", b"\xff\xfe", b"[" * 100_000, json.dumps({"files": 1}).encode()])
def test_a_manifest_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("manifest.json")
    member.size = len(content)
    assert_refused(write_tar(tmp_path / "x.tar", [(member, content)]), tmp_path)


def test_a_name_too_long_for_a_tar_is_refused_before_anything_is_written(
    bundle_copy: Path, edit_manifest: Edit, tmp_path: Path
) -> None:
    name = "é" * 60
    (bundle_copy / name).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    edit_manifest(lambda value: value["files"].update({name: {"bytes": 0, "sha256": empty}}))
    with pytest.raises(BundleError, match="too long for a tar"):
        pack_bundle(bundle_copy, tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()
