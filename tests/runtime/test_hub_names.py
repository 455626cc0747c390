"""What names a repository on a Hub, and what is a path."""

from __future__ import annotations

import pytest

from monograph import BundleError
from monograph.bundle.sources import locate_bundle
from monograph.hub import parse_hub_name


@pytest.mark.parametrize(
    "source", ["absent", "./a/b", "a/b/c", "/a/b", "../a", "a/..", "-a/b", "a/b@", "a--b/c", "a/b@../c",
     "a./b", "a/b.", "a-/b", "a/b-", "a/b--c", "a/b..c", "a/b.git", "a/" + "b" * 97, "a/b-@main"],
)  # fmt: skip
def test_anything_else_is_a_path(source: str) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        locate_bundle(source)


@pytest.mark.parametrize("name", ["a/b", "a1/b_c.d-e", "a/b_", "a/" + "b" * 96, "a/b@v1.0/x-"])
def test_what_a_hub_takes_is_a_name(name: str) -> None:
    assert str(parse_hub_name(name)) == name
