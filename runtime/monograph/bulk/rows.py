"""What of a table's rows is embedded and carried: the columns and their types, nulls, empty and overlong texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow.compute
from numpy.typing import NDArray

from monograph.bulk.packages import pyarrow
from monograph.bulk.readers import Block
from monograph.errors import InputError, first_line

Policy = Literal["error", "embed", "null", "skip"]
# A text that is longer takes the tokenizer seconds and a hundred times its size in memory, for a vector of its start.
MAX_TEXT_BYTES = 10_000_000
ALL_COLUMNS = "*"


@dataclass(frozen=True)
class Selection:
    """What is read of each row, and what becomes of rows without a text.

    ``column`` has the texts; ``keep`` are the columns that are carried over, in this order, and ``types`` those of
    their types that are set, by the names that `pyarrow` gives them. ``nulls`` says what a null in the column of texts
    becomes and ``empties`` what an empty text does: an error; a vector ("embed", as of an empty text); a row with null
    for its vector; or no row. A text of more than ``max_text_bytes`` of UTF-8 is an error.
    """

    column: str
    keep: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    nulls: Policy = "error"
    empties: Policy = "embed"
    max_text_bytes: int = MAX_TEXT_BYTES

    @property
    def columns(self) -> list[str] | None:
        """The columns to read, None for all."""
        return None if ALL_COLUMNS in self.keep else list(dict.fromkeys([self.column, *self.keep]))

    @property
    def read_types(self) -> dict[str, Any]:
        """The types that columns are read as where the file has none."""
        return {self.column: pyarrow.string(), **{name: _type_named(kind) for name, kind in self.types.items()}}

    def check(self) -> None:
        """Raise ``InputError`` if a type is not known."""
        for kind in self.types.values():
            _type_named(kind)

    def carried_schema(self, schema: Any, name: str) -> Any:
        """Return the schema of the columns to keep, of a table with ``schema`` that errors call ``name``.

        Raises:
            InputError: a column is missing or named twice, or the column of texts has none.

        """
        keep = list(schema.names) if ALL_COLUMNS in self.keep else list(self.keep)
        for column in [self.column, *keep]:
            count = schema.names.count(column)
            if count != 1:
                problem = "has no column" if count == 0 else f"has {count} columns named"
                raise InputError(
                    f"{name} {problem} {column!r}; its columns are {', '.join(map(repr, schema.names))}: choose with "
                    "--column and --keep"
                )
        kind = schema.field(self.column).type
        if not _holds_text(kind):
            raise InputError(f"{name} has {kind} in the column {self.column!r}, not text: choose another with --column")
        types = {column: _type_named(kind) for column, kind in self.types.items()}
        return pyarrow.schema([pyarrow.field(n, types.get(n, schema.field(n).type)) for n in keep])


@dataclass(frozen=True)
class Texts:
    """The texts of a block, and the rows that go with them.

    ``carried`` (``pyarrow.RecordBatch`` [n]) has the columns to keep; ``texts`` are those of the rows at ``positions``
    (intp [k], ascending), and the other rows have no vector.
    """

    texts: list[str]
    carried: Any
    positions: NDArray[np.intp]


def parse_keep(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the columns, and the types of some, of "id,lang" or "id:string,lang".

    Raises:
        InputError: a column is named twice, or has no name.

    """
    names: list[str] = []
    types: dict[str, str] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, _, kind = word.partition(":")
        if not name or name in names:
            raise InputError(f"--keep {','.join(words)}: name each column once, as in id,lang")
        names.append(name)
        if kind:
            types[name] = kind
    return tuple(names), types


def select(block: Block, selection: Selection, schema: Any, name: str) -> Texts:
    """Return the texts of a block and what is carried of its rows, with the types of ``schema``.

    Raises:
        InputError: a text is not usable; ``name`` and the block's place are named.

    """
    where = f"{name} {block.place}"
    rows = block.rows
    column = rows.column(selection.column)
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_null = np.asarray(column.is_null())
    sizes = np.asarray(pyarrow.compute.fill_null(_binary_length(column), 0))
    is_empty = ~is_null & (sizes == 0)
    _check_sizes(sizes, selection, where, block.first)
    for rows_of, policy, what, option in (
        (is_null, selection.nulls, "null", "--nulls"),
        (is_empty, selection.empties, "empty", "--empties"),
    ):
        if policy == "error" and rows_of.any():
            raise InputError(
                f"{where} has {_count(rows_of)} without a text in the column {selection.column!r} ({what}), the first "
                f"is row {block.first + int(rows_of.argmax())} of it: choose what becomes of them with {option} embed, "
                "null or skip"
            )
    without = _of_policy("null", is_null, is_empty, selection)
    skipped = _of_policy("skip", is_null, is_empty, selection)
    wanted = ~(without | skipped)
    texts = [text or "" for text in _to_python(column.filter(pyarrow.array(wanted)), where)]
    carried = _cast(rows, schema, where)
    if skipped.any():
        carried = carried.filter(pyarrow.array(~skipped))
    return Texts(texts, carried, np.flatnonzero(wanted[~skipped]))


def check_compatible(carried: Any, reference: Any, name: str, reference_name: str) -> None:
    """Raise ``InputError`` if the columns to keep of a source cannot be those of the others.

    ``carried`` and ``reference`` are schemas. Widths of a number, and encodings of a text, may differ.
    """
    if carried.names != reference.names:
        raise InputError(
            f"{name} has the columns {', '.join(carried.names)}, "
            f"and {reference_name} has {', '.join(reference.names)}: name those to keep"
        )
    for column in carried.names:
        here, there = carried.field(column).type, reference.field(column).type
        if _family(here) not in ("null", _family(there)):
            raise InputError(
                f"{name} has {here} in the column {column!r}, and {reference_name} has {there}: convert one of them, "
                f"or set the type of both with --keep {column}:string"
            )


def _check_sizes(sizes: NDArray[np.integer[Any]], selection: Selection, where: str, first: int) -> None:
    if len(sizes) and int(sizes.max()) > selection.max_text_bytes:
        row = int(sizes.argmax())
        raise InputError(
            f"{where} has a text of {int(sizes[row]):,} bytes in the column {selection.column!r}, row {first + row} of "
            f"it, and {selection.max_text_bytes:,} are read: shorten it, or raise --max-text-bytes"
        )


def _of_policy(
    policy: Policy, is_null: NDArray[np.bool_], is_empty: NDArray[np.bool_], selection: Selection
) -> NDArray[np.bool_]:
    """Return which rows without a text a policy is for."""
    return (is_null & (selection.nulls == policy)) | (is_empty & (selection.empties == policy))


def _count(rows: NDArray[np.bool_]) -> str:
    count = int(rows.sum())
    return f"{count:,} row{'' if count == 1 else 's'}"


def _to_python(column: Any, where: str) -> list[str | None]:
    try:
        values: list[str | None] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a text that is not UTF-8: the file is damaged, write it again") from error
    return values


def _cast(rows: Any, schema: Any, where: str) -> Any:
    """Return the columns of ``schema`` with its types."""
    columns = []
    for wanted in schema:
        column = rows.column(wanted.name)
        try:
            columns.append(column if column.type.equals(wanted.type) else column.cast(wanted.type))
        except pyarrow.ArrowException as error:
            raise InputError(
                f"{where} has a value in the column {wanted.name!r} that is no {wanted.type} ({first_line(error)}): "
                f"set another type with --keep {wanted.name}:string, for example"
            ) from error
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema) if columns else rows.select([])


def _binary_length(column: Any) -> Any:
    if pyarrow.types.is_null(column.type):
        return pyarrow.nulls(len(column), pyarrow.int32())
    if pyarrow.types.is_string_view(column.type):
        column = column.cast(pyarrow.large_string())
    return pyarrow.compute.binary_length(column)


def _holds_text(kind: Any) -> bool:
    return _family(kind) in ("text", "null")


def _family(kind: Any) -> str:
    """Return what values are, whatever their width or encoding."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _family(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    for name in ("null", "integer", "floating", "boolean"):
        if getattr(types, f"is_{name}")(kind):
            return name
    return str(kind)


def _type_named(name: str) -> Any:
    try:
        return pyarrow.type_for_alias(name)
    except ValueError as error:
        raise InputError(
            f"--keep: {name!r} is no type; types are string, int64, float64 and pyarrow's others"
        ) from error
