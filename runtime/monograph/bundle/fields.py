"""Read JSON objects with typed fields, noting every problem instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        """Tell whether the field is there and not null."""
        return self._values.get(key) is not None

    def number(self, key: str) -> float:
        """Return a required number, with a decimal point or without."""
        value = self._values.get(key)
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        except OverflowError:
            pass  # JSON integers have no limit; one beyond a float is no measurement.
        self.problems.append(
            f"{self._path(key)} must be a number" if key in self._values else f"{self._path(key)} is missing"
        )
        return 0.0

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a required list of strings."""
        values = self.need(key, list)
        if not all(isinstance(value, str) for value in values):
            self.problems.append(f"{self._path(key)} must hold strings only")
            return ()
        return tuple(values)

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

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a required list of integers."""
        values = self.need(key, list)
        if not all(type(value) is int for value in values):
            self.problems.append(f"{self._path(key)} must hold integers only")
            return ()
        return tuple(values)

    def axes(self, key: str) -> tuple[str | int, ...]:
        """Return a required list of sizes and names of sizes."""
        values = self.need(key, list)
        if not all(type(value) in (int, str) for value in values):
            self.problems.append(f"{self._path(key)} must hold integers and strings only")
            return ()
        return tuple(values)

    def string_map(self, key: str) -> dict[str, str]:
        """Return a required object whose values are strings."""
        values = self.need(key, dict)
        if not all(isinstance(value, str) for value in values.values()):
            self.problems.append(f"{self._path(key)} must hold strings only")
            return {}
        return dict(values)

    def child(self, key: str) -> Fields:
        """Return a required nested object."""
        return Fields(self.need(key, dict), self._path(key), self.problems)

    def children(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a required list."""
        for position, value in enumerate(self.need(key, list)):
            yield Fields(value, f"{self._path(key)}[{position}]", self.problems)

    def items(self, key: str) -> Iterator[tuple[str, Fields]]:
        """Yield the name and value of each object within a required object."""
        for name, value in self.need(key, dict).items():
            yield name, Fields(value, f"{self._path(key)}.{name}", self.problems)

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _typed(self, key: str, kind: type[_T], otherwise: Any) -> Any:
        value = self._values[key]
        # bool is a subclass of int, and a length of True is a mistake.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problems.append(f"{self._path(key)} must be {_NAMES[kind]}")
            return otherwise
        return value
