"""A leading ~ is the home folder wherever a path is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monograph import Embedder, InputError
from monograph.bundle import open_bundle
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import cache_folder
from monograph.commands.main import main
from monograph.paths import user_path
from monograph.text_lines import open_texts

NOBODY = "~no-such-user-here/bundle"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def test_only_a_leading_one_is_expanded(home: Path) -> None:
    assert user_path("~") == user_path(Path("~")) == home
    assert user_path("~/a/~b") == home / "a" / "~b"
    for plain in ("a/~", "/~/b", "a~", "."):
        assert user_path(plain) == Path(plain)


def test_a_folder_of_that_name_is_reached_by_its_place(home: Path) -> None:
    named = Path.cwd() / "~"
    assert user_path("./~/b") == named / "b" != home / "b"
    assert user_path(user_path("./~")) == named


def test_a_user_who_is_unknown_is_an_error(home: Path) -> None:
    (Path.cwd() / "~no-such-user-here").mkdir()
    with pytest.raises(InputError, match=r"~no-such-user-here has no home folder here: .* or \./~no-such"):
        user_path(NOBODY)
    for use in (open_bundle, locate_bundle, cache_folder, Embedder, lambda path: unpack_bundle(path, "out")):
        with pytest.raises(InputError, match="no home folder"):
            use(NOBODY)


def test_every_function_that_takes_a_path(home: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_bundle, home / "bundle")
    assert locate_bundle("~/bundle") == open_bundle("~/bundle").path == home / "bundle"
    assert pack_bundle("~/bundle", "~/packed.tar") == home / "packed.tar"
    assert unpack_bundle("~/packed.tar", "~/out") == home / "out"
    (home / "texts.txt").write_text("one\ntwo\n")
    with open_texts("~/texts.txt", None) as lines:
        assert list(lines) == ["one", "two"]
    assert cache_folder("~/cache") == home / "cache"
    monkeypatch.setenv("MONOGRAPH_CACHE", "~/elsewhere")
    assert cache_folder() == home / "elsewhere"
    assert list(Path.cwd().iterdir()) == []


def test_every_command(home: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_bundle, home / "bundle")
    (home / "texts.txt").write_text("one\ntwo\n")
    assert main(["embed", "~/bundle", "~/texts.txt", "--output=~/vectors.jsonl", "--device=cpu"]) == 0
    assert len((home / "vectors.jsonl").read_text().splitlines()) == 2
    assert main(["info", "~/bundle"]) == 0
    assert main(["pack", "~/bundle", "~/packed.tar"]) == 0
    assert main(["unpack", "~/packed.tar", "~/out"]) == 0
    assert (home / "out" / "manifest.json").exists()
    capsys.readouterr()
    assert main(["embed", "~/bundle", "~/texts.txt", "-o", "~no-such-user-here/v.npy"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []
