"""What the staging folder of an export says of a write that failed, and of a file that it could not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from monograph import ExportError
from monograph_export.writer import staged


def test_a_file_elsewhere_is_blamed_by_its_own_name(tmp_path: Path) -> None:
    absent = tmp_path / "checkpoint" / "vocab.txt"
    with pytest.raises(ExportError) as caught, staged(tmp_path / "bundle"):
        absent.read_bytes()
    assert str(caught.value) == f"cannot use {absent}: No such file or directory"
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_bundle_is_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"^cannot write {tmp_path / 'bundle'}: "), staged(tmp_path / "bundle") as f:
        (f / "absent" / "x").write_bytes(b"")
    full = f"^{tmp_path / 'bundle'} cannot be written .No space left on device.: free space on the disk /"
    with pytest.raises(ExportError, match=full), staged(tmp_path / "bundle"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    output = tmp_path / "absent" / "bundle"
    with pytest.raises(ExportError, match=f"^cannot write {output}: "), staged(output):
        pass
