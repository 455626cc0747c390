"""Measurements, tokenizers and probes that are damaged, or are not those of the bundle."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conformance.hostile.changes import CHANGES, change_json, link, named, restate


def _measurements(bundle: Path, **change: object) -> None:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    value = {"manifest_sha256": digest, "verifications": [], "not_run": {}, **change}
    (bundle / "measurements.json").write_text(json.dumps(value), encoding="utf-8")


CHANGES["measurements-of-another"] = lambda bundle: _measurements(bundle, manifest_sha256="0" * 64)
CHANGES["measurements-malformed"] = lambda bundle: _measurements(bundle, verifications=[{"engine": 1}])


@named("measurements-link")
def _(bundle: Path) -> None:
    _measurements(bundle)
    link(bundle, "measurements.json")


change_json(
    "tokenizer.json", "tokenizer", "truncates-elsewhere", lambda value: value["truncation"].update(max_length=5)
)
change_json("tokenizer.json", "tokenizer", "stride", lambda value: value["truncation"].update(stride=1))
change_json(
    "tokenizer.json", "tokenizer", "too-short-for-specials", lambda value: value["truncation"].update(max_length=1)
)
change_json("tokenizer.json", "tokenizer", "unknown-model", lambda value: value["model"].update(type="Oracle"))
change_json(
    "tokenizer.json", "tokenizer", "unknown-normalizer", lambda value: value.update(normalizer={"type": "Magic"})
)
change_json(
    "tokenizer.json", "tokenizer", "long-words", lambda value: value["model"].update(max_input_chars_per_word=10**6)
)
change_json("tokenizer.json", "tokenizer", "no-model", lambda value: value.pop("model"))
change_json(
    "tokenizer.json",
    "tokenizer",
    "growing-text",
    lambda value: value.update(
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}] * 3,
        }
    ),
)


@named("tokenizer-garbage")
def _(bundle: Path) -> None:
    (bundle / "tokenizer.json").write_bytes(b"\x00\x01garbage")
    restate(bundle, "tokenizer.json")


def _values(value: dict[str, Any], change: Callable[[np.ndarray[Any, Any]], object]) -> None:
    vectors = np.frombuffer(base64.b64decode(value["vectors"]["base64"]), dtype="<f4").copy()
    change(vectors)
    value["vectors"]["base64"] = base64.b64encode(vectors.tobytes()).decode()


change_json(
    "probes.json", "probes", "other-vectors", lambda value: _values(value, lambda vectors: vectors.__iadd__(0.01))
)
change_json("probes.json", "probes", "nan", lambda value: _values(value, lambda vectors: vectors.fill(np.nan)))
change_json(
    "probes.json",
    "probes",
    "token-counts",
    lambda value: value["token_counts"].__setitem__(3, value["token_counts"][3] + 1),
)
change_json("probes.json", "probes", "fewer-counts", lambda value: value["token_counts"].pop())
change_json("probes.json", "probes", "shape", lambda value: value["vectors"].update(shape=[len(value["texts"]), 25]))
change_json("probes.json", "probes", "dtype", lambda value: value["vectors"].update(dtype="float64"))
change_json(
    "probes.json",
    "probes",
    "base64",
    lambda value: value["vectors"].update(base64="!" + value["vectors"]["base64"][1:]),
)
change_json("probes.json", "probes", "no-texts", lambda value: value.update(texts=[], token_counts=[]))
change_json("probes.json", "probes", "route", lambda value: value.update(route="query"))
