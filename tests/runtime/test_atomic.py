"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monograph.atomic import atomic_file, atomic_folder, find_folder_problem
from monograph.cache import read_cached, write_cached


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what the disk was made to hold, in order; fsync itself is the real one."""
    sizes: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        sizes.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", noted)
    return sizes


def test_a_file_is_on_the_disk_before_it_has_its_name(
    synced: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def noted(path: Path, target: Path) -> Path:
        # -1 for the rename, which must come last.
        synced.append(-1)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"12345")
    assert synced == [5, -1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_value_of_the_cache_is_not_waited_for(synced: list[int], tmp_path: Path) -> None:
    write_cached(tmp_path / "value", b"12345")
    assert synced == []
    assert read_cached(tmp_path / "value") == b"12345"


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to("empty")
    for name in ("full", "full/file", "link"):
        assert "exists already" in find_folder_problem(tmp_path / name)
    assert find_folder_problem(tmp_path / "absent" / "x") == f"there is no folder {tmp_path / 'absent'}: make it first"
    for name in ("empty", "new"):
        assert find_folder_problem(tmp_path / name) == ""
        with atomic_folder(tmp_path / name) as folder:
            (folder / "file").write_text("ours")
        assert (tmp_path / name / "file").read_text() == "ours"
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "full"):
        pass
    assert (tmp_path / "full" / "file").read_text() == "mine"
