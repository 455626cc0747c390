"""Where the cache is, and what of it is used: nothing that another user may have written."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import Embedder, InputError
from monograph.cache import cache_folder, read_cached, usable_cache, write_cached
from support.command import NOT_MEASURED

VARIABLES = ("MONOGRAPH_CACHE", "XDG_CACHE_HOME", "HOME")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MONOGRAPH_CACHE": "/m", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/m"),
        ({"MONOGRAPH_CACHE": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/monograph"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/monograph"),
        ({"HOME": "/h"}, "/h/.cache/monograph"),
    ],
)
def test_the_first_that_is_set_wins(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
    assert cache_folder(None) == Path(expected)
    assert cache_folder("own") == Path("own")
    assert cache_folder(Path("own")) == Path("own")


@pytest.mark.parametrize("cache_dir", [5, b"own"])
def test_what_is_no_path_is_refused(cache_dir: Any) -> None:
    with pytest.raises(InputError, match=f"cache_dir must be a str or a path, got {type(cache_dir).__name__}"):
        cache_folder(cache_dir)


def test_nothing_is_made(tmp_path: Path) -> None:
    cache_folder(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root may become a user that does not exist")
def test_a_user_without_a_home_has_a_folder_that_can_be_named() -> None:
    code = "import os; os.setuid(54321); from monograph.cache import cache_folder; print(cache_folder())"
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    # Imported before the change of user, who may not read this checkout.
    code = f"import monograph.cache; {code}"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == Path("/.cache/monograph")


only_root = pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root may become another user")
ANOTHER_USER = 54321


def a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "cache"


def a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "cache"


def a_long_name(folder: Path) -> Path:
    return folder / ("n" * 300)


def a_nul(folder: Path) -> Path:
    return folder / "with\0nul"


def writable_by_all(folder: Path) -> Path:
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o777)
    return folder / "shared" / "cache"


def of_another_user(folder: Path) -> Path:
    (folder / "theirs").mkdir(0o755)
    os.chown(folder / "theirs", ANOTHER_USER, ANOTHER_USER)
    return folder / "theirs" / "cache"


def a_link_to_another_user(folder: Path) -> Path:
    (folder / "link").symlink_to(of_another_user(folder))
    return folder / "link"


UNUSABLE = [a_file, below_a_file, a_loop, a_long_name, a_nul, writable_by_all]
UNUSABLE_FOR_ROOT = [pytest.param(kind, marks=only_root) for kind in (of_another_user, a_link_to_another_user)]


@pytest.mark.parametrize("make", [*UNUSABLE, *UNUSABLE_FOR_ROOT])
def test_without_a_usable_cache_everything_works_and_one_line_says_so(
    make: Callable[[Path], Path], tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with caplog.at_level(logging.INFO, "monograph.cache"):
        for device in ("cpu", "auto"):
            with Embedder(tiny_bundle, device, cache_dir=folder) as model:
                assert model.encode("a boat").shape == (24,)
    [line] = [record.getMessage() for record in caplog.records if record.name == "monograph.cache"]
    assert "is not used: " in line
    # A service without a home is no reason to warn.
    trusted = make in UNUSABLE and make is not writable_by_all
    assert {record.levelno for record in caplog.records} == {logging.INFO if trusted else logging.WARNING}
    assert "set MONOGRAPH_CACHE to a folder of your own" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_cache_in_a_deleted_folder_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    cache = usable_cache("cache")
    assert cache is not None
    write_cached(cache / "value", b"12345")
    assert read_cached(cache / "value") is None


@pytest.mark.parametrize("name", ["two\nlines", "caf\udce9", "n" * 255])
def test_an_odd_name_is_a_name(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    with Embedder(tiny_bundle, "openvino", cache_dir=tmp_path / name) as model:
        assert model.encode("a boat").shape == (24,)
    assert list((tmp_path / name / "openvino").iterdir())


def test_a_link_of_this_user_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(0o700)
    (tmp_path / "link").symlink_to("disk")
    assert usable_cache(tmp_path / "link") == (tmp_path / "disk").resolve()
    (tmp_path / "disk" / "elsewhere").mkdir(0o700)
    (tmp_path / "disk" / "openvino").symlink_to("elsewhere")
    write_cached(tmp_path / "disk" / "openvino" / "value", b"12345")
    assert read_cached(tmp_path / "disk" / "openvino" / "value") == b"12345"


def test_what_is_written_is_for_this_user_alone(tmp_path: Path) -> None:
    umask = os.umask(0o002)
    try:
        write_cached(tmp_path / "cache" / "kind" / "value", b"12345")
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache", *tmp_path.rglob("*/*"))}
    assert modes == {"cache": 0o700, "kind": 0o700, "value": 0o600}
    assert read_cached(tmp_path / "cache" / "kind" / "value") == b"12345"


def group_may_write_the_file(value: Path) -> None:
    value.chmod(0o660)


def group_may_write_the_folder(value: Path) -> None:
    value.parent.chmod(0o770)


def a_link_in_its_place(value: Path) -> None:
    value.rename(value.with_name("elsewhere"))
    value.symlink_to("elsewhere")


def a_pipe_in_its_place(value: Path) -> None:
    value.unlink()
    os.mkfifo(value)


def one_byte_changed(value: Path) -> None:
    content = bytearray(value.read_bytes())
    content[-1] ^= 1
    value.write_bytes(content)


def the_value_of_another_key(value: Path) -> None:
    write_cached(value.with_name("other"), b"12345")
    value.with_name("other").replace(value)


def owned_by_another_user(value: Path) -> None:
    os.chown(value, ANOTHER_USER, ANOTHER_USER)


CHANGES = [
    group_may_write_the_file, group_may_write_the_folder, a_link_in_its_place, a_pipe_in_its_place, one_byte_changed,
    the_value_of_another_key,
]  # fmt: skip


@pytest.mark.parametrize("change", [*CHANGES, pytest.param(owned_by_another_user, marks=only_root)])
def test_a_value_that_others_may_have_written_is_none(change: Callable[[Path], None], tmp_path: Path) -> None:
    value = tmp_path / "kind" / "value"
    write_cached(value, b"12345")
    assert read_cached(value) == b"12345"
    change(value)
    assert read_cached(value) is None


@only_root
@pytest.mark.parametrize("mode", [0o000, 0o555, 0o700])
def test_a_user_in_the_home_of_another_goes_without_a_cache(mode: int, tiny_bundle: Path, tmp_path: Path) -> None:
    """The first models have everything imported, which that user may not read here: "auto" cannot start Python."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    code = f"""
import os, sys
from monograph import Embedder
from monograph.inference import verifier_process
for device in ("openvino", "cpu"):
    with Embedder(sys.argv[1], device) as model:
        expected = model.encode("a boat").tolist()
for name in ("MONOGRAPH_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
os.environ["HOME"] = sys.argv[2]
os.chdir(sys.argv[1])
os.setuid({ANOTHER_USER})
for device in ("cpu", "auto"):
    with Embedder(".", device) as model:
        assert abs(model.encode("a boat") - expected).max() < 0.01
"""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    arguments = [sys.executable, "-c", code, str(tiny_bundle), str(home)]
    environment = os.environ | NOT_MEASURED  # that user may not write coverage's file
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the cache") <= 1
    assert all("is not used" in line or "goes on to the next engine" in line for line in done.stderr.splitlines())
    assert list(home.iterdir()) == []
