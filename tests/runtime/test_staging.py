"""Staging files and folders: those of killed processes go with the next run, those of living ones stay."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from monograph import staging
from monograph.atomic import atomic_file, atomic_folder
from monograph.staging import remove_abandoned, staging_file, staging_folder

OF_ANOTHER_KERNEL = ".name.partial-00000000-00000000"
CUT_OFF = """
import os, signal, sys
from pathlib import Path
from monograph.atomic import atomic_file, atomic_folder
path = Path(sys.argv[2])
if sys.argv[1] == "folder":
    with atomic_folder(path) as folder:
        (folder / "file").write_bytes(b"half")
        os.kill(os.getpid(), signal.{signal})
else:
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.{signal})
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut_off(kind: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CUT_OFF.format(signal="SIGKILL"), kind, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_leaves_one_thing_until_the_next_run(kind: str, tmp_path: Path) -> None:
    for name in ("one", "one", "another"):
        cut_off(kind, tmp_path / name)
        [left] = names(tmp_path)
        assert left.startswith(f".{name}.partial-")
    with atomic_file(tmp_path / "complete") as file:
        file.write(b"all")
    assert names(tmp_path) == ["complete"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_stopped_process_is_not_dead(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_OFF.format(signal="SIGSTOP"), kind, str(tmp_path / "x")]
    with subprocess.Popen(command) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        before = names(tmp_path)
        remove_abandoned(tmp_path)
        assert names(tmp_path) == before
        process.send_signal(signal.SIGCONT)
    assert names(tmp_path) == ["x"]


def test_those_of_this_process_are_in_use(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "a") as folder, staging_file(tmp_path / "b") as (staged, file):
        file.close()
        remove_abandoned(tmp_path)
        assert folder.is_dir()
        assert staged.is_file()
    assert names(tmp_path) == []


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    def two() -> None:
        with atomic_folder(tmp_path / "x") as one, atomic_folder(tmp_path / "x") as other:
            (one / "of").write_text("the first")
            (other / "of").write_text("the second")

    with pytest.raises(OSError, match="not empty"):
        two()
    assert (tmp_path / "x" / "of").read_text() == "the second"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_host_wrote_is_abandoned_after_a_day(kind: str, old: bool, tmp_path: Path) -> None:
    path = tmp_path / OF_ANOTHER_KERNEL
    path.mkdir()
    if kind == "folder":
        (path / "content").mkdir()
        (path / "content" / "file").write_bytes(b"half")
    else:
        (path / "content").write_bytes(b"half")
    (path / "lock").write_bytes(b"")
    for file in (path, *path.rglob("*")) if old else ():
        os.utime(file, (time.time() - 25 * 3600,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ([] if old else [OF_ANOTHER_KERNEL])


def test_without_locks_only_age_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off("folder", tmp_path / "x")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with atomic_folder(tmp_path / "x"):
        assert len(names(tmp_path)) == 2
    [left, _] = names(tmp_path)
    for file in (tmp_path / left, *(tmp_path / left).rglob("*")):
        os.utime(file, (time.time() - 25 * 3600,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "removed", [("content/file",), ("content/file", "content"), ("content/file", "content", "lock")]
)
def test_a_removal_that_was_cut_off_is_finished(removed: tuple[str, ...], tmp_path: Path) -> None:
    cut_off("folder", tmp_path / "x")
    [root] = tmp_path.iterdir()
    for name in removed:
        path = root / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["lock", "root"])
def test_a_folder_that_another_run_took_for_abandoned_is_made_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run comes between the steps in which a folder is made and locked."""
    hold = staging._hold
    seen: list[Path] = []

    def interfering(handle: int, path: Path) -> bool:
        if not seen:
            seen.append(path)
            path.unlink()
            if name == "root":
                path.parent.rmdir()
        return hold(handle, path)

    monkeypatch.setattr(staging, "_hold", interfering)
    with atomic_folder(tmp_path / "x") as folder:
        assert seen[0].parent != folder.parent
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["x"]


def write(kind: str, path: Path) -> None:
    if kind == "folder":
        with atomic_folder(path) as folder:
            (folder / "file").write_bytes(b"all")
    else:
        with atomic_file(path) as file:
            file.write(b"all")


def is_interrupted(number: int, write: Callable[[], None]) -> bool:
    """Interrupt a function at one of the moments at which Python runs signal handlers; return False if it has fewer."""
    seen = 0

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        seen += event in ("call", "c_return")
        if seen == number:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        write()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    assert seen < number, "the interrupt was lost"
    return False


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_interrupt_leaves_all_or_nothing_at_every_moment(kind: str, tmp_path: Path) -> None:
    complete = 0
    # With what it imports.
    write(kind, tmp_path / "before")
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        interrupted = is_interrupted(number, functools.partial(write, kind, folder / "x"))
        complete += names(folder) == ["x"]
        assert names(folder) in ([], ["x"]), number
        assert all(path.read_bytes() == b"all" for path in folder.rglob("*") if path.is_file())
        if not interrupted:
            break
    # Most moments are before the rename, and some are after it.
    assert number > 2 * complete > 20


def test_what_is_not_a_staging_name_stays(tmp_path: Path) -> None:
    for name in (".x.partial-", ".x.partial-12345678", "x.partial-00000000-00000000", ".partial-00000000-00000000"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f".y.partial-{staging._kernel()}-00000000").symlink_to(elsewhere)
    before = names(tmp_path)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == before


@pytest.mark.parametrize("characters", ["n" * 255, "é" * 127, "\U0001f680" * 63])
def test_a_name_may_be_as_long_as_the_disk_allows(characters: str, tmp_path: Path) -> None:
    with atomic_folder(tmp_path / characters):
        pass
    with atomic_file(tmp_path / f"{characters[:-1]}.") as file:
        file.write(b"all")
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("old", [False, True])
def test_what_a_child_put_where_its_parent_was_cleaned_up_goes_after_a_day(old: bool, tmp_path: Path) -> None:
    root = tmp_path / f".x.partial-{staging._kernel()}-00000000"
    (root / "content" / "late").mkdir(parents=True)
    for path in (root, *root.rglob("*")) if old else ():
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    remove_abandoned(tmp_path)
    assert root.exists() is not old
