"""The tree of errors, and what an error keeps of its cause."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from monograph import errors
from monograph.errors import BundleError, InputError, MonographError

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
ERRORS = {name: value for name, value in CLASSES.items() if issubclass(value, Exception)}


def drawn_tree() -> dict[str, str]:
    """Read the drawing of the module's docstring: each error and the one it hangs under."""
    path: list[str] = []
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[-2] if depth else "Exception"
    return parents


def test_the_tree_is_the_one_that_the_docstring_draws() -> None:
    assert drawn_tree() == {name: value.__bases__[0].__name__ for name, value in ERRORS.items()}


def test_the_tree_has_these_errors() -> None:
    assert drawn_tree() == {
        "MonographError": "Exception",
        "BundleError": "MonographError",
        "DeviceError": "MonographError",
        "InputError": "MonographError",
        "ExportError": "MonographError",
        "UnsupportedModuleError": "ExportError",
        "ParityError": "ExportError",
    }


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS.keys())
def test_every_error_has_one_parent_and_says_what_it_means(kind: type[Exception]) -> None:
    # InputError is what callers of sentence-transformers catch, too.
    assert kind.__bases__[1:] == ((ValueError,) if kind is InputError else ())
    assert kind.__doc__


@pytest.mark.parametrize("kind", [value for value in ERRORS.values() if value is not BundleError])
def test_an_error_is_its_message_and_survives_pickling(kind: type[Exception]) -> None:
    error = kind("what is wrong: what to do")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error) == "what is wrong: what to do"
    with pytest.raises(MonographError):
        raise copy


def test_a_bundle_error_keeps_its_problems_through_pickling() -> None:
    error = BundleError(Path("models") / "one", ["a is missing", "b was changed"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is BundleError
    assert copy.bundle == "models/one"
    assert copy.problems == ("a is missing", "b was changed")
    assert str(copy) == str(error)


def test_a_bundle_error_is_one_line_with_the_bundle_and_every_problem() -> None:
    text = str(BundleError("models/one", ["a is missing", "b was changed", "c is a link"]))
    assert text == "bundle models/one: a is missing; b was changed; c is a link"
    assert len(text.splitlines()) == 1
