"""Where the cache is: the argument, then the variables, then the home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monograph import InputError
from monograph.cache import cache_folder

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
