"""Texts as the world sends them: the vector that sentence-transformers gives, or an InputError; never a crash."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from monograph import Embedder, InputError

PALOCHKAS = "\u04c0\u04cf\u0049\u006c\u0031\u007c"
ODD = [
    "",
    " ",
    "\n\r\t",
    "a\x00b\x00",
    "\x00",
    "".join(map(chr, range(32))),
    "\x7f\x80\x9f\xad",
    "\u200b\u200c\u200d\u2060\ufeff",
    "\u202eright to left override\u202c",
    "שלום עולם, مرحبا بالعالم",
    "e" + "\u0301" * 500,
    "ﷺ ﬀ ＡＢＣ ① ½ ㎏",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇺🇳",
    "\U0010ffff \ufffe \uffff",
    "a" * 100_000,
    "word " * 20_000,
    "港" * 100_000,
    "İıßſ",
    "[CLS] [SEP] [PAD] [UNK] [MASK]",
    *(f"к{letter}уащ" for letter in PALOCHKAS),
]


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def model(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, request.param, "float32") as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_checkpoint), device="cpu", local_files_only=True)


@pytest.mark.parametrize("text", ODD, ids=lambda text: f"{text[:12]!r}, {len(text)}")
def test_an_odd_text_has_the_vector_of_sentence_transformers(
    model: Embedder, reference: SentenceTransformer, text: str
) -> None:
    expected = reference.encode(text, show_progress_bar=False)
    assert np.abs(model.encode(text) - expected).max() <= 1e-5


def test_odd_texts_together_have_the_vectors_that_each_has_alone(model: Embedder) -> None:
    alone = np.array([model.encode(text) for text in ODD])
    assert np.abs(model.encode(ODD) - alone).max() <= 1e-5


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["one", "two", "one"]),
        pd.Series(["one", "two", "one"], dtype="string"),
        pd.Series(["one", "two", "one"], dtype="category"),
        pd.Series(["one", "two", "one"], index=[7, 3, 7]),
        pd.Index(["one", "two", "one"]),
        pd.DataFrame({"text": ["one", "two", "one"]})["text"],
        pd.array(["one", "two", "one"], dtype="string"),
        np.array(["one", "two", "one"]),
        ("one", "two", "one"),
    ],
    ids=lambda column: f"{type(column).__name__} {getattr(column, 'dtype', '')}",
)
def test_columns_and_arrays_are_texts_by_position(model: Embedder, column: Any) -> None:
    assert (model.encode(column) == model.encode(["one", "two", "one"])).all()


@pytest.mark.parametrize("missing", [None, pd.NA, float("nan")], ids=repr)
@pytest.mark.parametrize("dtype", ["object", "string"])
def test_a_missing_value_of_a_column_is_named_by_its_position(model: Embedder, missing: object, dtype: str) -> None:
    with pytest.raises(InputError, match=r"text 1 must be a str, got (None|NAType|float)"):
        model.encode(pd.Series(["one", missing], dtype=dtype))


def test_a_table_is_refused(model: Embedder) -> None:
    with pytest.raises(InputError, match="one-dimensional, got 2"):
        model.encode(pd.DataFrame({"a": ["one"], "b": ["two"]}))


def test_identical_texts_are_computed_once_and_have_the_same_vector_to_the_last_bit(
    model: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = model._open.routes.main.engine
    computed: list[int] = []
    run = engine.run

    def counting(inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        computed.append(len(inputs["input_ids"]))
        return run(inputs, output)

    monkeypatch.setattr(engine, "run", counting)
    texts = [f"text {number % 7} " * (1 + number % 7) for number in range(1000)]
    vectors = model.encode(texts)
    assert sum(computed) == 7
    assert (vectors == vectors[np.arange(1000) % 7]).all()
    # A text that another's prompt completes is the same text only with the prompt.
    computed.clear()
    model.encode(["a", "a", "b"], prompt="a ")
    assert sum(computed) == 2
    computed.clear()
    blocks = list(model.encode_iter(iter(texts)))
    assert sum(computed) <= 7 * len(blocks)
    assert np.abs(np.concatenate(blocks) - vectors).max() <= 1e-5


def normalization_texts(folder: Path) -> Iterator[str]:
    for line in (folder / "NormalizationTest.txt").read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#@":
            for column in line.split(";")[:5]:
                yield "".join(chr(int(code, 16)) for code in column.split())


def emoji_texts(folder: Path) -> Iterator[str]:
    for line in (folder / "emoji-test.txt").read_text(encoding="utf-8").splitlines():
        codes = line.split(";")[0].split()
        if codes and re.fullmatch("[0-9A-F]+", codes[0]):
            yield "".join(chr(int(code, 16)) for code in codes)


# The copy of the stress test at hand has no invalid byte any more, so here is what its sections are about.
INVALID = (
    b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff",
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc0\x80", b"\xc1\xbf", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80",
)  # fmt: skip


def stress_texts(folder: Path, errors: str) -> Iterator[str]:
    lines = (folder / "UTF-8-test.txt").read_bytes().split(b"\n")
    for line in (*lines, *INVALID, *(b"a boat " + bad + b" in the harbour" for bad in INVALID)):
        yield line.decode("utf-8", errors)


def finite_or_refused(model: Embedder, texts: Iterable[str]) -> tuple[int, int]:
    """Embed what may be embedded and return how many texts that were, and how many were refused."""
    taken, refused = [], 0
    for text in texts:
        try:
            text.encode("utf-8")
            taken.append(text)
        except UnicodeEncodeError:
            refused += 1
            with pytest.raises(InputError, match="text 0 holds a lone surrogate"):
                model.encode([text])
    vectors: NDArray[np.float32] = model.encode(taken)
    assert vectors.shape == (len(taken), model.dimension)
    assert np.isfinite(vectors).all()
    return len(taken), refused


def test_unicode_s_own_test_files_give_finite_vectors_or_an_input_error(model: Embedder, data: Path) -> None:
    folder = data / "unicode"
    begin = time.monotonic()
    counts = {
        # The whole file is run by the slow test; here every seventh string.
        "normalization": finite_or_refused(model, islice(normalization_texts(folder), 0, None, 7)),
        "emoji": finite_or_refused(model, emoji_texts(folder)),
        "stress, replace": finite_or_refused(model, stress_texts(folder, "replace")),
        "stress, surrogateescape": finite_or_refused(model, stress_texts(folder, "surrogateescape")),
    }
    print(counts, f"{time.monotonic() - begin:.0f} s")
    assert counts["normalization"][0] > 10_000
    assert counts["emoji"][0] > 3_000
    assert counts["stress, replace"][1] == 0
    assert counts["stress, surrogateescape"][1] == 2 * len(INVALID)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_every_string_of_unicode_s_test_files_on_the_real_minilm(minilm_bundle: Path, data: Path, device: str) -> None:
    folder = data / "unicode"
    with Embedder(minilm_bundle, device) as opened:
        counts = {
            "normalization": finite_or_refused(opened, normalization_texts(folder)),
            "emoji": finite_or_refused(opened, emoji_texts(folder)),
            "stress, replace": finite_or_refused(opened, stress_texts(folder, "replace")),
            "stress, surrogateescape": finite_or_refused(opened, stress_texts(folder, "surrogateescape")),
        }
        print(f"\n{opened}: (embedded, refused) {counts}")
