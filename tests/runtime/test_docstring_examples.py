"""The examples in the docstrings of public names run, on a committed bundle of the task that each is about."""

from __future__ import annotations

from pathlib import Path

import pytest

import monograph
from monograph import util
from support.doctests import check_examples

DATA = Path(__file__).parents[1] / "data"
# The bundle that an example calls ``bundle``, where it is not the one of the task "embedding".
BUNDLES = {
    "CrossEncoder": "rerank",
    "HybridEmbeddings": "embedding-hybrid",
    "HybridScores": "embedding-hybrid",
    "SparseEncoder": "sparse",
    "SparseVector": "sparse",
    "MultiVectorEncoder": "multi-vector",
}
# Their examples call the exporter; tests/docs runs them.
OF_EXPORTS = ("ExportError", "ParityError", "UnsupportedModuleError")


@pytest.mark.parametrize("name", sorted({*monograph.__all__} - {"__version__", *OF_EXPORTS}))
def test_examples_run(name: str) -> None:
    """Every public name has an example, which may use the others without an import."""
    names = {public: getattr(monograph, public) for public in monograph.__all__}
    names["bundle"] = str(DATA / BUNDLES.get(name, "embedding"))
    check_examples(names[name], name, names)


@pytest.mark.parametrize("name", [name for name in util.__all__ if ">>>" in (getattr(util, name).__doc__ or "")])
def test_examples_of_util_run(name: str) -> None:
    check_examples(getattr(util, name), name, {})
