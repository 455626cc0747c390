"""Cases that are a packed bundle whose tar was changed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing import use
from fuzzing.byte_mutations import mutate_bytes
from fuzzing.case import Case, Kind
from fuzzing.outcomes import ERROR, RESULT, Violation
from fuzzing.workplace import BUNDLES, DATA, MANIFEST, MEASUREMENTS

_BLOCK = tarfile.BLOCKSIZE
_CHECKSUM = slice(148, 156)
# The fields of a header: place and size.
_FIELDS = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1),
           "link": (157, 100), "magic": (257, 8), "device": (329, 8), "prefix": (345, 155)}  # fmt: skip
# Where a file must never appear.
_OUTSIDE = ("/escaped-from-an-archive", "~/escaped-from-an-archive")
# fmt: off
_NAMES = (*_OUTSIDE, "../escaped", "a/b", ".", "..", "", "manifest.json", "measurements.json", "model.onnx", "a\nb",
          "\x1b[2J", "\xff", "./model.onnx", "model.onnx/", "unlisted.bin", "x" * 100, "\u202eb", "C:\\x")
# fmt: on
_SIZES = (
    b"00000000000\0",
    b"77777777777\0",
    b"-0000000001\0",
    b"\x80" + b"\0" * 10 + b"\x01",
    b"\xff" * 12,
    b"\x80" + b"\xff" * 11,
    b"abcdefghijk\0",
    b" " * 12,
    b"\0" * 12,
    b"00000001000\0",
)  # fmt: skip
_TYPES = b"012345678LKSxgDMNV\0\xff"


@dataclass
class Member:
    """One header and what follows it; ``checked`` says whether the header's checksum is made to fit."""

    header: bytearray
    content: bytes
    checked: bool = True

    def to_bytes(self) -> bytes:
        """Return header, content and padding."""
        header = bytearray(self.header)
        if self.checked:
            header[_CHECKSUM] = b" " * 8
            header[_CHECKSUM] = b"%06o\0 " % sum(header)
        return bytes(header) + self.content + bytes(-len(self.content) % _BLOCK)


@dataclass
class Tar:
    """The members of an archive; ``edits`` follow on its bytes."""

    members: list[Member]
    end: bytes = bytes(2 * _BLOCK)
    edits: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Return the archive."""
        content = b"".join(member.to_bytes() for member in self.members) + self.end
        for edit in self.edits:
            content = edit(content)
        return content


class Archives(Kind):
    """What unpacks whole, is a bundle; nothing else is left of an archive, and nothing is written elsewhere."""

    name = "archives"

    def start(self, random: random.Random) -> Tar:
        """Pack a bundle."""
        folder = DATA / random.choice(BUNDLES)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        names = [MANIFEST, *manifest["files"]]
        return Tar([_member(name, (folder / name).read_bytes()) for name in names])

    def mutate(self, data: Tar, random: random.Random) -> str:
        """Change a header, the order or number of members, the manifest, or bytes."""
        if not data.members:
            data.members.append(_member(MANIFEST, b"{}"))
        name = random.choice(tuple(_ACTIONS))
        return f"{name}: {_ACTIONS[name](data, random)}"

    def run(self, case: Case) -> str:
        """Unpack the archive and look at everything that is there afterwards."""
        place = self.root / "case"
        place.mkdir()
        try:
            archive, target = place / "bundle.tar", place / "inner" / "bundle"
            target.parent.mkdir()
            archive.write_bytes(case.data.to_bytes())
            code, _ = use.run_command("unpack", archive, target, "--quiet")
            _check_left(place, target, complete=code == 0)
            if code == 0 and use.run_command("info", target)[0]:
                raise Violation("unpacked bundle that cannot be opened", "")
            return ERROR if code else RESULT
        finally:
            shutil.rmtree(place)

    def save(self, case: Case, folder: Path) -> None:
        """Write the archive."""
        (folder / "bundle.tar").write_bytes(case.data.to_bytes())


def _check_left(place: Path, target: Path, *, complete: bool) -> None:
    """Require that there is the whole bundle or nothing, and nothing next to it."""
    expected = {place / "bundle.tar", target.parent}
    if complete:
        manifest = json.loads((target / MANIFEST).read_bytes())
        expected |= {target, target / MANIFEST, *(target / name for name in manifest["files"])}
    left = set(place.rglob("*"))
    if complete:
        expected |= left & {target / MEASUREMENTS}
    escaped = [name for name in _OUTSIDE if os.path.lexists(Path(name).expanduser())]
    if left != expected or escaped:
        raise Violation("files left by an archive", ", ".join(map(str, [*sorted(left ^ expected), *escaped]))[:500])
    if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in left):
        raise Violation("a member that is no regular file", str(sorted(left)))


def _member(name: str, content: bytes, type_: bytes = tarfile.REGTYPE) -> Member:
    information = tarfile.TarInfo(name)
    information.size, information.type = len(content), type_
    buffer = information.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    # A long name has members of its own before it.
    return Member(bytearray(buffer[-_BLOCK:]), content)


def _change_header(data: Tar, random: random.Random) -> str:
    member = random.choice(data.members)
    name = random.choice(("name", "name", "size", "size", "type", "type", *_FIELDS))
    place, size = _FIELDS[name]
    value = {
        "name": lambda: random.choice(_NAMES).encode("utf-8"),
        "link": lambda: random.choice(_NAMES).encode("utf-8"),
        "prefix": lambda: random.choice(_NAMES).encode("utf-8"),
        "size": lambda: random.choice(_SIZES),
        "type": lambda: bytes([random.choice(_TYPES)]),
    }.get(name, lambda: random.randbytes(size))()
    member.header[place : place + size] = value[:size].ljust(size, b"\0")
    member.checked = random.random() < 0.9
    return f"{name} {value[:40]!r}"


def _add_member(data: Tar, random: random.Random) -> str:
    """Add a file, or one of the members that give the next another name, size or meaning."""
    name = random.choice(_NAMES)
    records = {
        "path": name,
        "size": "5",
        "linkpath": "/etc/passwd",
        "GNU.sparse.realsize": "99999999999",
        "hdrcharset": "BINARY",
    }
    key = random.choice(tuple(records))
    pax = _pax(key, records[key])
    member = random.choice(
        (
            lambda: _member(name[:90], b"content"),
            lambda: _member("x", pax, tarfile.XHDTYPE),
            lambda: _member("x", pax, tarfile.XGLTYPE),
            lambda: _member("././@LongLink", name.encode() + b"\0", tarfile.GNUTYPE_LONGNAME),
            lambda: _member("././@LongLink", b"/etc/passwd\0", tarfile.GNUTYPE_LONGLINK),
            lambda: _member("sparse", b"abc", tarfile.GNUTYPE_SPARSE),
            lambda: _member("folder", b"", tarfile.DIRTYPE),
            lambda: _member("pipe", b"", tarfile.FIFOTYPE),
            lambda: _member("disk", b"", tarfile.BLKTYPE),
        )
    )()
    position = random.randrange(len(data.members) + 1)
    data.members.insert(position, member)
    return f"{bytes(member.header[:40]).rstrip(bytes(1))!r} of type {chr(member.header[156])} at {position}"


def _pax(key: str, value: str) -> bytes:
    record = f" {key}={value}\n".encode()
    length = len(record)
    while length != len(record) + len(str(length)):
        length = len(record) + len(str(length))
    return str(length).encode() + record


def _change_order(data: Tar, random: random.Random) -> str:
    action = random.choice(("shuffle", "twice", "without", "none", "end"))
    if action == "shuffle":
        random.shuffle(data.members)
    elif action == "twice":
        data.members.append(random.choice(data.members))
    elif action == "without":
        data.members.remove(random.choice(data.members))
    elif action == "none":
        data.members.clear()
        data.members.append(_member(MANIFEST, b"{}"))
    else:
        data.end = random.choice(
            (b"", bytes(_BLOCK), bytes(100), b"x" * _BLOCK, bytes(20 * _BLOCK), bytes(_BLOCK) + b"y" * 700)
        )
    return action


def _change_content(data: Tar, random: random.Random) -> str:
    member = random.choice(data.members)
    member.content = random.choice(
        (
            lambda: mutate_bytes(member.content, random)[0],
            lambda: member.content + b"x",
            lambda: member.content[:-1],
            lambda: b"",
            lambda: bytes(len(member.content)),
        )
    )()
    if random.random() < 0.5:
        place, size = _FIELDS["size"]
        member.header[place : place + size] = b"%011o\0" % len(member.content)
    return bytes(member.header[:30]).rstrip(b"\0").decode("ascii", "replace")


def _change_manifest(data: Tar, random: random.Random) -> str:
    """Let the manifest list what the archive has, under any name."""
    place, size = _FIELDS["size"]
    try:
        manifest: Any = json.loads(data.members[0].content)
        name = random.choice(_NAMES)
        manifest["files"][name] = {"bytes": 7, "sha256": "0" * 64}
    except (ValueError, TypeError, KeyError):
        return "none"
    data.members[0].content = json.dumps(manifest).encode()
    data.members[0].header[place : place + size] = b"%011o\0" % len(data.members[0].content)
    data.members.append(_member(name[:90], b"content"))
    return f"lists {name!r}"


def _change_bytes(data: Tar, random: random.Random) -> str:
    seed = random.getrandbits(64)
    data.edits.append(lambda content: mutate_bytes(content, random_of_bytes(seed))[0])
    return "bytes"


def random_of_bytes(seed: int) -> random.Random:
    """Return the generator of an edit, which is made again each time that the archive is written."""
    return random.Random(seed)  # noqa: S311


def _compress(data: Tar, random: random.Random) -> str:
    kind = random.choice(("gz", "xz", "bz2"))
    data.edits.append(lambda content: _compressed(content, kind))
    return kind


def _compressed(content: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("empty"))
    return buffer.getvalue() + content[:_BLOCK]


_ACTIONS: dict[str, Callable[[Tar, random.Random], str]] = {
    "header": _change_header,
    "members": _add_member,
    "order": _change_order,
    "content": _change_content,
    "manifest": _change_manifest,
    "bytes": _change_bytes,
    "compression": _compress,
}
