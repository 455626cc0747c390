"""probes.json keeps texts and vectors to the last bit, and a malformed one is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import BundleError
from monograph.bundle import Probes, read_probes, write_probes

TEXTS = ("", "plain", "Ünïcode, 日本語, \N{GRINNING FACE}", 'quotes " and \\ and\nlines\u2028too')


def some_probes() -> Probes:
    vectors = np.random.default_rng(0).standard_normal((4, 3), dtype=np.float32)
    return Probes(TEXTS, (2, 3, 11, 9), vectors)


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def test_sets_of_other_routes_and_prompts_come_back(tmp_path: Path) -> None:
    first = replace(some_probes(), route="document")
    sets = (first, replace(first, route="query", prompt="find: "))
    write_probes(tmp_path, sets)
    read = read_probes(tmp_path)
    assert [(one.route, one.prompt, one.texts) for one in read] == [(one.route, one.prompt, one.texts) for one in sets]
    value = json.loads((tmp_path / "probes.json").read_text())
    value["others"][0]["token_counts"] = []
    (tmp_path / "probes.json").write_text(json.dumps(value))
    with pytest.raises(BundleError, match="differ in number"):
        read_probes(tmp_path)


def test_probes_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = some_probes()
    assert write_probes(tmp_path, [written]) == tmp_path / "probes.json"
    (read,) = read_probes(tmp_path)
    assert read.texts == written.texts
    assert read.token_counts == written.token_counts
    assert read.vectors.dtype == np.float32
    np.testing.assert_array_equal(bits(read.vectors), bits(written.vectors))


@pytest.mark.parametrize(
    "vectors",
    [
        np.array([[0x7F7FFFFF, 0xFF7FFFFF], [0x80000000, 0x00000001]], dtype=np.uint32).view(np.float32),
        np.random.default_rng(1).standard_normal((2, 6), dtype=np.float32)[:, ::2],
        np.asfortranarray(np.random.default_rng(2).standard_normal((2, 5), dtype=np.float32)),
        np.random.default_rng(3).standard_normal((2, 5), dtype=np.float32).astype(">f4"),
        np.empty((2, 0), dtype=np.float32),
    ],
    ids=["extremes, -0 and subnormal", "strided", "column order", "big-endian", "no dimension"],
)
def test_every_bit_of_the_vectors_is_preserved(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    write_probes(tmp_path, [Probes(("a", "b"), (1, 1), vectors)])
    read = read_probes(tmp_path)[0].vectors
    assert read.shape == vectors.shape
    np.testing.assert_array_equal(bits(read), bits(vectors.astype(np.float32)))


def mostly_zeros() -> Probes:
    vectors = np.zeros((4, 9), dtype=np.float32)
    vectors[[0, 0, 2, 3], [1, 7, 0, 8]] = [0.5, 1e-38, -2.0, 3.25]
    return Probes(TEXTS, (2, 3, 11, 9), vectors)


def test_sparse_vectors_are_stored_without_their_zeros(tmp_path: Path) -> None:
    path = write_probes(tmp_path, [mostly_zeros()])
    stored = json.loads(path.read_bytes())["vectors"]
    assert (stored["shape"], stored["counts"]) == ([4, 9], [2, 0, 1, 1])
    assert len(base64.b64decode(stored["base64"])) == len(base64.b64decode(stored["columns"])) == 4 * 4
    np.testing.assert_array_equal(bits(read_probes(tmp_path)[0].vectors), bits(mostly_zeros().vectors))


def columns(*places: int) -> str:
    return base64.b64encode(np.array(places, dtype="<i4").tobytes()).decode("ascii")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"columns": columns(1, 7, 0, 9)}, "a column lies outside 0 to 8"),
        ({"columns": columns(-1, 7, 0, 8)}, "a column lies outside 0 to 8"),
        ({"columns": columns(7, 1, 0, 8)}, "not in ascending order"),
        ({"columns": columns(7, 7, 0, 8)}, "not in ascending order"),
        ({"columns": columns(1, 7, 0)}, "differ in number"),
        ({"columns": "AAAA"}, "cannot be decoded"),
        ({"counts": [2, 1, 1]}, "differ in number"),
        ({"counts": [3, -1, 1, 1]}, "differ in number"),
        ({"counts": [2, 0, 1, 10**30]}, "differ in number"),
        ({"counts": None}, "counts"),
        ({"base64": base64.b64encode(b"\x00\x00\xc0\x7f" * 4).decode()}, "must be finite"),
        ({"shape": [4, 10**9]}, "values in all"),
    ],
)
def test_zeros_that_are_left_out_must_fit(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    path = write_probes(tmp_path, [mostly_zeros()])
    value = json.loads(path.read_bytes())
    value["vectors"].update(changed)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        read_probes(tmp_path)
    assert any(problem in line for line in caught.value.problems), caught.value.problems


def test_vectors_of_another_width_than_the_graphs_take_no_room(tmp_path: Path) -> None:
    write_probes(tmp_path, [mostly_zeros()])
    assert read_probes(tmp_path, 9)[0].vectors.shape == (4, 9)
    with pytest.raises(BundleError, match="9 columns, and the graph gives 8"):
        read_probes(tmp_path, 8)


def test_the_vectors_that_were_read_may_be_written_to(tmp_path: Path) -> None:
    write_probes(tmp_path, [some_probes()])
    read_probes(tmp_path)[0].vectors[0, 0] = 1


def test_the_probes_of_a_bundle_fit_its_dimension(tiny_bundle: Path) -> None:
    (probes,) = read_probes(tiny_bundle)
    assert probes.vectors.shape == (len(probes.texts), 24)
    assert len(probes.token_counts) == len(probes.texts) > 0
    np.testing.assert_allclose(np.linalg.norm(probes.vectors, axis=1), 1, atol=1e-6)


def base64_of(*values: float) -> str:
    return base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode("ascii")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda value: value.pop("texts"), "texts is missing"),
        (lambda value: value.update(texts=[1, 2, 3, 4]), "texts must hold strings only"),
        (lambda value: value.update(token_counts={}), "token_counts must be a list"),
        (lambda value: value.update(token_counts=[1, 2, 3, 4.5]), "token_counts must hold integers only"),
        (lambda value: value.update(token_counts=[1, 2, 3, 10**400]), "token_counts must lie between 0 and 2147483647"),
        (lambda value: value.update(token_counts=[1, 2, 3, 2**31]), "token_counts must lie between 0 and 2147483647"),
        (lambda value: value.update(token_counts=[1, 2, 3, -1]), "token_counts must lie between 0 and 2147483647"),
        (lambda value: value.pop("vectors"), "vectors is missing"),
        (lambda value: value["vectors"].pop("base64"), "vectors.base64 is missing"),
        (lambda value: value["vectors"].update(shape=[4, True]), "vectors.shape must hold integers only"),
        (lambda value: value["texts"].pop(), "differ in number"),
        (lambda value: value["token_counts"].append(3), "differ in number"),
        (lambda value: value["vectors"].update(shape=[4, 4]), "cannot be decoded"),
        (lambda value: value["vectors"].update(shape=[12]), "must be two sizes"),
        (lambda value: value["vectors"].update(shape=[4, 3, 1]), "must be two sizes"),
        (lambda value: value["vectors"].update(base64=base64_of(1, 2, 3)), "cannot be decoded"),
    ],
)
def test_a_malformed_file_is_a_bundle_error(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], problem: str
) -> None:
    path = write_probes(tmp_path, [some_probes()])
    value = json.loads(path.read_bytes())
    spoil(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        read_probes(tmp_path)
    assert all(line.startswith("probes.json: ") for line in caught.value.problems)
    assert any(problem in line for line in caught.value.problems)


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"\xff\xff"])
def test_a_file_that_is_not_json_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "probes.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"probes\.json cannot be read"):
        read_probes(tmp_path)


def test_a_missing_file_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"probes\.json cannot be read"):
        read_probes(tmp_path)
