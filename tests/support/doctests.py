"""Run the examples in docstrings."""

from __future__ import annotations

import doctest
from typing import Any


def check_examples(documented: object, name: str, names: dict[str, Any]) -> None:
    """Run the examples of a class and its methods, or of a function, where ``names`` are defined; there must be one."""
    doctests = doctest.DocTestFinder(exclude_empty=True).find(documented, name, module=False, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctests:
        runner.run(example)
    assert runner.summarize().failed == 0
    assert runner.tries > 0
