"""In which settings two runs differ, in words: by the options of `monograph embed` that set them."""

from __future__ import annotations

from collections.abc import Mapping

# The name of a setting -> what it is called in errors. Others are called by their names.
_CALLED = {
    "prompt": "--prompt",
    "route": "--task",
    "dimensions": "--truncate-dim",
    "normalize": "--normalize",
    "precision": "--precision",
    "ranges": "--ranges",
    "pooling": "--pool-factor",
    "text_column": "--column",
    "columns": "--keep",
    "vector_column": "--vector-column",
    "nulls": "--nulls",
    "empties": "--empties",
    "fingerprint": "fingerprint of bundle, engine and device",
    "monograph": "release of monograph",
    "version": "version of the output",
}
# Their values are texts whose spaces count.
_QUOTED = "prompt"


def describe_changes(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return what differs in the settings of a file that is there and of this run, "" for nothing.

    A setting that is itself a mapping stands for its settings, and a list for its items.
    """
    there, here = _flat(before), _flat(now)
    changed = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    return "; ".join(
        f"{_CALLED.get(name, name)}: {_shown(name, there.get(name))} there, {_shown(name, here.get(name))} now"
        for name in changed
    )


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _shown(name: str, value: object) -> str:
    if name == _QUOTED and isinstance(value, str):
        return repr(value)
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "none" if value in (None, "") else str(value)
