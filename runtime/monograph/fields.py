"""Read JSON objects into dataclasses, noting every problem instead of stopping at the first."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from monograph.inputs import Input

_T = TypeVar("_T")
_NAMES: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number with a decimal point or exponent",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_PLURALS: Mapping[object, str] = {
    str: "strings only",
    int: "integers only",
    float: "numbers only",
    str | int: "integers and strings only",
}
_PLACEHOLDERS: Mapping[type, object] = {str: "", int: 0, float: 0.0, bool: False, list: [], dict: {}}


class Fields:
    """One JSON object; a missing or mistyped field is noted in ``problems`` under its dotted name."""

    def __init__(self, value: object, name: str, problems: list[str]) -> None:
        self.name = name
        self.problems = problems
        if not isinstance(value, dict):
            problems.append(f"{name or 'the file'} must be an object")
            value = {}
        self._values = cast(dict[str, Any], value)

    def read(self, kind: type[_T], **read: object) -> _T:
        """Return the object as a dataclass; a field that cannot be read holds an empty value, and is noted.

        The dataclass's types say what is read: str, bool, int, float (any number), a dataclass, ``tuple[X, ...]`` (a
        list), ``tuple[X, Y]`` (a list of two), ``dict[str, X]`` (an object). A field with a default, or of
        ``X | None``, may be absent or null. Values in ``read`` are taken as they are.
        """
        hints = _hints(cast(Any, kind))
        for field in dataclasses.fields(cast(Any, kind)):
            hint, optional = _without_none(hints[field.name])
            has_default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            if field.name in read or (has_default and not self.has(field.name)):
                continue
            read[field.name] = None if optional and not self.has(field.name) else self._read(field.name, hint)
        return kind(**read)

    def need(self, key: str, kind: type[_T]) -> _T:
        """Return the field, or note its absence and return an empty value of its kind."""
        if key not in self._values:
            self.problems.append(f"{self._path(key)} is missing")
            return cast(_T, _PLACEHOLDERS[kind])
        return cast(_T, self._typed(key, kind, _PLACEHOLDERS[kind]))

    def maybe(self, key: str, kind: type[_T]) -> _T | None:
        """Return the field, or None where it is absent or null."""
        return None if self._values.get(key) is None else self._typed(key, kind, None)

    def has(self, key: str) -> bool:
        """Return whether the field is there and not null."""
        return self._values.get(key) is not None

    def number(self, key: str) -> float:
        """Return a required number, with a decimal point or without."""
        value = self._values.get(key)
        if _is_number(value):
            return float(cast(float, value))
        self.problems.append(
            f"{self._path(key)} must be a number" if key in self._values else f"{self._path(key)} is missing"
        )
        return 0.0

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a required list of integers."""
        return cast(tuple[int, ...], self._list(key, int))

    def string_map(self, key: str) -> dict[str, str]:
        """Return a required object whose values are strings."""
        return cast(dict[str, str], self._map(key, str))

    def inputs(self, key: str) -> tuple[Input, ...]:
        """Return a required list of strings, or of lists of two strings, which are pairs."""
        values = self.need(key, list)
        pairs = [value for value in values if isinstance(value, list) and len(value) == 2]
        if not all(isinstance(text, str) for pair in pairs for text in pair) or not (
            len(pairs) == len(values) or all(isinstance(value, str) for value in values)
        ):
            self.problems.append(f"{self._path(key)} must hold strings only, or lists of two strings only")
            return ()
        return tuple(value if isinstance(value, str) else (value[0], value[1]) for value in values)

    def child(self, key: str) -> Fields:
        """Return a required nested object."""
        return Fields(self.need(key, dict), self._path(key), self.problems)

    def children(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a required list."""
        for position, value in enumerate(self.need(key, list)):
            yield Fields(value, f"{self._path(key)}[{position}]", self.problems)

    def entries(self, key: str) -> Iterator[tuple[str, Fields]]:
        """Yield the names and objects of an optional object of objects."""
        for name, value in (self.maybe(key, dict) or {}).items():
            yield name, Fields(value, f"{self._path(key)}.{name}", self.problems)

    def _read(self, key: str, hint: Any) -> object:
        if hint is float:
            return self.number(key)
        if dataclasses.is_dataclass(hint):
            return self.child(key).read(cast(type, hint))
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is dict:
            return self._map(key, arguments[1])
        if typing.get_origin(hint) is not tuple:
            return self.need(key, hint)
        if arguments[-1] is Ellipsis:
            return self._list(key, arguments[0])
        return self._fixed_list(key, arguments)

    def _list(self, key: str, hint: Any) -> tuple[object, ...]:
        if dataclasses.is_dataclass(hint):
            return tuple(child.read(cast(type, hint)) for child in self.children(key))
        values = self.need(key, list)
        if not all(map(_check_of(hint), values)):
            self.problems.append(f"{self._path(key)} must hold {_PLURALS[hint]}")
            return ()
        return tuple(values)

    def _fixed_list(self, key: str, hints: tuple[Any, ...]) -> tuple[object, ...]:
        values = self.need(key, list)
        if len(values) != len(hints):
            self.problems.append(f"{self._path(key)} must be a list of {len(hints)}")
            return tuple(() for _ in hints)
        entries = Fields({str(place): value for place, value in enumerate(values)}, self._path(key), self.problems)
        return tuple(entries._read(str(place), hint) for place, hint in enumerate(hints))

    def _map(self, key: str, hint: Any) -> dict[str, object]:
        values = self.need(key, dict)
        if not dataclasses.is_dataclass(hint):
            if not all(map(_check_of(hint), values.values())):
                self.problems.append(f"{self._path(key)} must hold {_PLURALS[hint]}")
                return {}
            return dict(values)
        entries: dict[str, object] = {}
        for name, value in values.items():
            noted = len(self.problems)
            entry: object = Fields(value, f"{self._path(key)}.{name}", self.problems).read(cast(type, hint))
            # An entry with problems is left out: what it holds would make others look wrong.
            if len(self.problems) == noted:
                entries[name] = entry
        return entries

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _typed(self, key: str, kind: type[_T], otherwise: Any) -> Any:
        value = self._values[key]
        # bool is a subclass of int, and a length of True is a mistake.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problems.append(f"{self._path(key)} must be {_NAMES[kind]}")
            return otherwise
        return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type without None, and whether None was part of it."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    arguments = [argument for argument in typing.get_args(hint) if argument is not types.NoneType]
    return functools.reduce(lambda a, b: a | b, arguments), len(arguments) < len(typing.get_args(hint))


def _check_of(hint: Any) -> Callable[[object], bool]:
    """Return what says whether a value is of a simple type, or of one of two."""
    if hint is float:
        return _is_number
    accepted = typing.get_args(hint) or (hint,)
    return lambda value: type(value) in accepted


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        # JSON integers have no limit; one beyond a float is no measurement.
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)
