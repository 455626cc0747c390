"""probes.json: the acceptance test in a bundle, texts or pairs with their reference outputs.

The reference is torch, or for an export from an ONNX file that file with the model's modules in NumPy.

The file is a set of probes; those of other routes or with a prompt are further sets, under "others". The vectors are
one base64 string of little-endian float32 values in row order, so that readers in any language get the exact bits.
Where most values are 0 only the others are stored, with their columns and their number in each row. Vectors of tokens
are stored one text after the other, with the number of each text's ``rows``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle.manifest import PROBES_FILE
from monograph.errors import BundleError
from monograph.fields import Fields
from monograph.inputs import Input
from monograph.json_files import parse_json, read_bounded

_DTYPE = "float32 little-endian"
_COLUMN_DTYPE = "<i4"
# JSON integers have no limit, NumPy's have.
_MAX_COUNT = 2**31 - 1
# Sparse vectors take more memory than the file: at most 2 GB, for 250,000 tokens and 2,000 probes.
_MAX_VALUES = 2**29
# 200 vectors of 250,000 values that are not 0; others have a hundredth of that.
_MAX_BYTES = 2**29
# The commas of long texts count.
_MAX_JSON_VALUES = 4_000_000


@dataclass(frozen=True)
class Probes:
    """Texts, the number of tokens of each, and their reference vectors (float32 [n, d]).

    For a cross-encoder the texts are pairs, and the vectors their logits; for a model of token vectors they are objects
    [n], each a matrix float32 [tokens, d]. ``route`` is None for a model without routes.
    ``prompt`` was put before each text and is included in ``token_counts``. ``output`` names the output of the graph
    that the vectors are, None for the first.
    """

    texts: tuple[Input, ...]
    token_counts: tuple[int, ...]
    vectors: NDArray[Any]
    route: str | None = None
    prompt: str = ""
    output: str | None = None

    @property
    def per_token(self) -> bool:
        """Whether a text has a matrix, of vectors of its tokens."""
        return self.vectors.dtype == np.object_

    @property
    def width(self) -> int:
        """Columns of the vectors."""
        return int(self.vectors[0].shape[-1] if self.per_token else self.vectors.shape[1])

    @property
    def single_texts(self) -> tuple[str, ...]:
        """The texts; none for a cross-encoder, which takes pairs."""
        return tuple(text for text in self.texts if isinstance(text, str))


def write_probes(folder: Path, sets: Sequence[Probes], file: str = PROBES_FILE) -> Path:
    """Write one or more sets of probes into a bundle's folder and return the file."""
    first, *others = (_to_json(probes) for probes in sets)
    value = first | ({"others": others} if others else {})
    path = folder / file
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _to_json(probes: Probes) -> dict[str, Any]:
    vectors = np.concatenate(probes.vectors) if probes.per_token else probes.vectors
    return {
        **({} if probes.route is None else {"route": probes.route}),
        **({"prompt": probes.prompt} if probes.prompt else {}),
        **({"output": probes.output} if probes.output else {}),
        "texts": list(probes.texts),
        "token_counts": list(probes.token_counts),
        "vectors": {
            "dtype": _DTYPE,
            "shape": list(vectors.shape),
            **({"rows": list(map(len, probes.vectors))} if probes.per_token else {}),
            **_pack_vectors(np.ascontiguousarray(vectors, dtype="<f4")),
        },
    }


def _pack_vectors(vectors: NDArray[np.float32]) -> dict[str, Any]:
    active = vectors != 0
    # A value with its column is twice as large as a value.
    if 2 * np.count_nonzero(active) >= vectors.size:
        return {"base64": _encode(vectors)}
    columns = np.nonzero(active)[1].astype(_COLUMN_DTYPE)
    return {"counts": active.sum(axis=1).tolist(), "columns": _encode(columns), "base64": _encode(vectors[active])}


def _encode(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def read_probes(folder: Path, width: int | None = None, file: str = PROBES_FILE) -> tuple[Probes, ...]:
    """Read the sets of probes of a bundle, at least one; their vectors must have ``width`` columns, None for any.

    ``file`` is another than probes.json for precisions after a bundle's first.

    Raises:
        BundleError: the file is missing or malformed.

    """
    problems: list[str] = []
    try:
        value = parse_json(read_bounded(folder / file, _MAX_BYTES), _MAX_JSON_VALUES)
    except (OSError, ValueError) as error:
        raise BundleError(folder, [f"{file} cannot be read ({error}): export the model again"]) from error
    limits = _Limits(width, _MAX_VALUES)
    top = Fields(value, "", problems)
    others = () if top.maybe("others", list) is None else tuple(top.children("others"))
    sets = tuple(_read_set(fields, limits) for fields in (top, *others))
    if problems:
        raise BundleError(folder, [f"{file}: {problem}" for problem in problems])
    return sets


@dataclass
class _Limits:
    """The columns of every vector, and the number of values that may still be read, zeros included."""

    width: int | None
    values: int


def _read_set(fields: Fields, limits: _Limits) -> Probes:
    problems, problem_count = fields.problems, len(fields.problems)
    texts = fields.inputs("texts")
    counts = fields.integers("token_counts")
    if not all(0 <= count <= _MAX_COUNT for count in counts):
        problems.append(f"token_counts must lie between 0 and {_MAX_COUNT}")
    output = fields.maybe("output", str)
    # Of another output, they are as wide as that.
    vectors = _read_vectors(fields.child("vectors"), None if output else limits.width, limits)
    if len(problems) == problem_count and not len(texts) == len(counts) == len(vectors) > 0:
        problems.append("texts, token_counts and vectors differ in number, or are none")
    return Probes(texts, counts, vectors, fields.maybe("route", str), fields.maybe("prompt", str) or "", output)


def _read_vectors(stored: Fields, width: int | None, limits: _Limits) -> NDArray[Any]:
    shape, data, dtype = stored.integers("shape"), stored.need("base64", str), stored.need("dtype", str)
    if dtype != _DTYPE:
        stored.problems.append(f"vectors.dtype must be {_DTYPE!r}")
    try:
        values = np.frombuffer(base64.b64decode(data, validate=True), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            stored.problems.append("vectors must be finite")
        if len(shape) == 2 and min(shape) >= 0:
            if width not in (None, shape[1]):
                raise ValueError(f"{shape[1]} columns, and the graph gives {width}")
            limits.values -= shape[0] * shape[1]
            if limits.values < 0:
                raise ValueError(f"more than {_MAX_VALUES:,} values in all")
            vectors = _unpack_sparse(stored, values, *shape) if stored.has("columns") else values.reshape(shape)
            return _split_by_text(stored, vectors) if stored.has("rows") else vectors
    except (ValueError, OverflowError) as error:
        stored.problems.append(f"vectors cannot be decoded ({error})")
    else:
        stored.problems.append("vectors.shape must be two sizes")
    return np.empty((0, 0), dtype=np.float32)


def _split_by_text(stored: Fields, vectors: NDArray[np.float32]) -> NDArray[np.object_]:
    """Return the matrix of each text, float32 [tokens, width]; raise ``ValueError`` if they are not all the rows."""
    rows = stored.integers("rows")
    if min(rows, default=0) < 0 or sum(rows) != len(vectors):
        raise ValueError("rows do not add up to the vectors")
    matrices = np.empty(len(rows), dtype=np.object_)
    for position, part in enumerate(np.split(vectors, np.cumsum(rows)[:-1]) if rows else ()):
        matrices[position] = part
    return matrices


def _unpack_sparse(stored: Fields, values: NDArray[np.float32], rows: int, width: int) -> NDArray[np.float32]:
    """Return vectors, float32 [rows, width], from the values that are not 0; raise ``ValueError`` on a mismatch."""
    counts = stored.integers("counts")
    columns = np.frombuffer(base64.b64decode(stored.need("columns", str), validate=True), dtype=_COLUMN_DTYPE)
    if len(counts) != rows or min(counts, default=0) < 0 or not sum(counts) == len(columns) == len(values):
        raise ValueError("counts, columns and values differ in number")
    if len(columns) and not 0 <= columns.min() <= columns.max() < width:
        raise ValueError(f"a column lies outside 0 to {width - 1}")
    owners = np.repeat(np.arange(rows), counts)
    if (np.diff(columns.astype(np.int64)) <= 0)[np.diff(owners) == 0].any():
        raise ValueError("the columns of a row are not in ascending order")
    vectors = np.zeros((rows, width), dtype=np.float32)
    vectors[owners, columns] = values
    return vectors
