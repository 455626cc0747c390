"""The examples in the docstrings of public names run, on a committed bundle of the task that each is about."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import monograph

DATA = Path(__file__).parents[1] / "data"
# The bundle that an example calls ``bundle``; each of these has one.
BUNDLES = {"CrossEncoder": "rerank", "Embedder": "embedding", "SparseEncoder": "sparse", "load": "embedding"}


@pytest.mark.parametrize("name", monograph.__all__)
def test_examples_run(name: str) -> None:
    names = {public: getattr(monograph, public) for public in monograph.__all__}
    names["bundle"] = str(DATA / BUNDLES.get(name, "embedding"))
    doctests = doctest.DocTestFinder(exclude_empty=True).find(names[name], name, module=False, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctests:
        runner.run(example)
    assert runner.summarize().failed == 0
    assert runner.tries > 0 or name not in BUNDLES
