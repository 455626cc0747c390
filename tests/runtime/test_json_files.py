"""Files of strangers are read with a bound, and their JSON as every other reader would."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monograph import BundleError
from monograph.bundle import open_bundle
from monograph.bundle.bundle import MAX_MANIFEST_BYTES
from monograph.json_files import parse_json, read_bounded


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[-1e999]", "-1e999 is infinite"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'["\\ud800"]', "lone surrogate U\\+D800"),
        (b'{"\\udfff": 1}', "lone surrogate U\\+DFFF"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b'["\xff"]', "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5_000 + b"]", "digits"),
        (b"[" + b"[]," * 1_000_000 + b"0]", "more than 1,000,000 values"),
        (b"", "Expecting value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_other_readers_understand_otherwise_is_a_value_error(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_json(b'["\\ud83d\\ude00", "\\\\ud800"]') == ["😀", "\\ud800"]


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bounded(file, 5) == b"12345"
    with pytest.raises(ValueError, match="5 bytes, and at most 4 are read"):
        read_bounded(file, 4)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="not a regular file"):
            read_bounded(path, 5)
    with pytest.raises(OSError, match="link"):
        read_bounded(tmp_path / "link", 5)


def test_a_manifest_beyond_any_size_is_not_read(bundle_copy: Path) -> None:
    with (bundle_copy / "manifest.json").open("r+b") as file:
        # A file of holes: nothing is written.
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"at most {MAX_MANIFEST_BYTES:,} are read"):
        open_bundle(bundle_copy)
