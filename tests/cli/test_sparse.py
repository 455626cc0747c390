"""What the commands make of a bundle of sparse vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monograph import SparseEncoder
from monograph.batching import WINDOW_TEXTS
from support.command import assert_error, monograph

TEXTS = ["the harbour", "", "a radio", "третья строка"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def expected(model: SparseEncoder, texts: list[str], max_active_dims: int) -> list[dict[str, list[float]]]:
    return [
        {"indices": columns.tolist(), "values": [float(str(value)) for value in values]}
        for columns, values in model.encode_active(texts, max_active_dims=max_active_dims)
    ]


def test_embed_prints_columns_and_values(
    tiny_sparse_bundle: Path, tiny_sparse_encoder: SparseEncoder, file: Path
) -> None:
    done = monograph("embed", tiny_sparse_bundle, file, "--device", "cpu", "--max-active-dims", "5")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected(tiny_sparse_encoder, TEXTS, 5)


def test_embed_writes_a_file_and_takes_it_up_again(
    tiny_sparse_bundle: Path, tiny_sparse_encoder: SparseEncoder, tmp_path: Path
) -> None:
    lines = [*TEXTS, *(f"{number} boats" for number in range(WINDOW_TEXTS - len(TEXTS))), "a radio"]
    output = tmp_path / "vectors.jsonl"
    embed = ("embed", tiny_sparse_bundle, "-", "-o", output, "--device", "cpu", "--max-active-dims")
    cut_off = monograph(*embed, "9", stdin="\n".join(lines[:-1]).encode() + b"\n\xff\n")
    assert_error(cut_off, 1, "is not UTF-8", "--resume continues")
    whole = "\n".join(lines).encode()
    refused = monograph(*embed, "8", "--resume", stdin=whole)
    assert_error(refused, 1, "active dimensions: 9 there, 8 now", "remove that file to start over")
    done = monograph(*embed, "9", "--resume", stdin=whole)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in output.read_text().splitlines()] == expected(tiny_sparse_encoder, lines, 9)


def test_embed_refuses_what_only_dense_vectors_have(tiny_sparse_bundle: Path, file: Path, tmp_path: Path) -> None:
    done = monograph("embed", tiny_sparse_bundle, file, "-o", tmp_path / "vectors.npy", "--device", "cpu")
    assert_error(done, 1, "a sparse encoder, whose vectors are written as .jsonl: ", "vectors.npy")
    done = monograph("embed", tiny_sparse_bundle, file, "--normalize", "--truncate-dim", "3", "--device", "cpu")
    assert_error(done, 1, "sparse encoder", "--truncate-dim, --normalize")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


def test_embed_refuses_what_only_sparse_vectors_have(tiny_bundle: Path, file: Path) -> None:
    done = monograph("embed", tiny_bundle, file, "--max-active-dims", "3", "--device", "cpu")
    assert_error(done, 1, "embedding model", "--max-active-dims")


def test_info_and_verify_know_sparse_vectors(tiny_sparse_bundle: Path) -> None:
    output = monograph("info", tiny_sparse_bundle).stdout.decode()
    assert "sparse       5000 dimensions, dot similarity" in output
    done = monograph("verify", tiny_sparse_bundle, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert b"passed" in done.stdout


def test_commands_of_other_tasks_say_what_the_bundle_is(tiny_sparse_bundle: Path, file: Path) -> None:
    assert_error(monograph("similarity", tiny_sparse_bundle, "a", "b"), 1, "'sparse'")
    assert_error(monograph("rank", tiny_sparse_bundle, "a", file), 1, "'sparse'", "a cross-encoder")
