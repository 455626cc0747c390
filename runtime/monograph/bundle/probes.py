"""probes.json: the acceptance test that a bundle carries, texts or pairs of texts and their reference.

These are torch's, or for a graft those of the encoder's own file with its modules in NumPy.

The file is a set of probes; what other routes or a prompt give is in further sets, under "others". The vectors are one
base64 string of little-endian float32 values in row order, so that a reader in any language gets them bit for bit.
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

from monograph.bundle.fields import Fields
from monograph.bundle.manifest import PROBES_FILE
from monograph.errors import BundleError
from monograph.inputs import Input

_DTYPE = "float32 little-endian"
# JSON integers have no limit; NumPy's have.
_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class Probes:
    """Texts, the number of tokens of each, and their reference vectors (float32 [n, d]).

    Of a bundle that scores pairs the texts are pairs, and the vectors their logits.

    ``route`` is the route that they were embedded by, None where the model has none. ``prompt`` was put before each
    text; its tokens are among ``token_counts``.
    """

    texts: tuple[Input, ...]
    token_counts: tuple[int, ...]
    vectors: NDArray[np.float32]
    route: str | None = None
    prompt: str = ""

    @property
    def single_texts(self) -> tuple[str, ...]:
        """The texts of a bundle that embeds; of one that scores pairs none."""
        return tuple(text for text in self.texts if isinstance(text, str))


def write_probes(folder: Path, sets: Sequence[Probes]) -> Path:
    """Write one or more sets of probes into a bundle's folder and return the file."""
    first, *others = (_to_json(probes) for probes in sets)
    value = first | ({"others": others} if others else {})
    path = folder / PROBES_FILE
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _to_json(probes: Probes) -> dict[str, Any]:
    vectors = np.ascontiguousarray(probes.vectors, dtype="<f4")
    return {
        **({} if probes.route is None else {"route": probes.route}),
        **({"prompt": probes.prompt} if probes.prompt else {}),
        "texts": list(probes.texts),
        "token_counts": list(probes.token_counts),
        "vectors": {
            "dtype": _DTYPE,
            "shape": list(vectors.shape),
            "base64": base64.b64encode(vectors.tobytes()).decode("ascii"),
        },
    }


def read_probes(folder: Path) -> tuple[Probes, ...]:
    """Read the sets of probes of a bundle, at least one.

    Raises:
        BundleError: the file is missing or malformed.

    """
    problems: list[str] = []
    try:
        value = json.loads((folder / PROBES_FILE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(folder, [f"{PROBES_FILE} cannot be read ({error}): export the model again"]) from error
    top = Fields(value, "", problems)
    others = () if top.maybe("others", list) is None else tuple(top.children("others"))
    sets = tuple(_read_set(fields) for fields in (top, *others))
    if problems:
        raise BundleError(folder, [f"{PROBES_FILE}: {problem}" for problem in problems])
    return sets


def _read_set(fields: Fields) -> Probes:
    problems, noted = fields.problems, len(fields.problems)
    texts = fields.inputs("texts")
    counts = fields.integers("token_counts")
    if not all(0 <= count <= _LARGEST_COUNT for count in counts):
        problems.append(f"token_counts must lie between 0 and {_LARGEST_COUNT}")
    vectors = _read_vectors(fields.child("vectors"))
    if len(problems) == noted and not len(texts) == len(counts) == len(vectors) > 0:
        problems.append("texts, token_counts and vectors differ in number, or are none")
    if not np.isfinite(vectors).all():
        problems.append("vectors must be finite")
    return Probes(texts, counts, vectors, fields.maybe("route", str), fields.maybe("prompt", str) or "")


def _read_vectors(stored: Fields) -> NDArray[np.float32]:
    shape, data, dtype = stored.integers("shape"), stored.need("base64", str), stored.need("dtype", str)
    if dtype != _DTYPE:
        stored.problems.append(f"vectors.dtype must be {_DTYPE!r}")
    try:
        raw = np.frombuffer(base64.b64decode(data, validate=True), dtype="<f4")
        if len(shape) == 2 and min(shape) >= 0:
            return raw.reshape(shape).astype(np.float32)
    except ValueError as error:
        stored.problems.append(f"vectors cannot be decoded ({error})")
    else:
        stored.problems.append("vectors.shape must be two sizes")
    return np.empty((0, 0), dtype=np.float32)
