"""`monograph rank`, and what the other commands say of a bundle that scores pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monograph import CrossEncoder, MultiVectorEncoder
from support.command import assert_error, monograph, monograph_after_imports

QUERY = "where is the boat?"
DOCUMENTS = ["the harbour", "", "a radio", "третья строка"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    return path


def test_rank_prints_place_score_and_text(
    tiny_cross_bundle: Path, tiny_cross_encoder: CrossEncoder, file: Path
) -> None:
    expected = tiny_cross_encoder.rank(QUERY, DOCUMENTS, return_documents=True)
    done = monograph("rank", tiny_cross_bundle, QUERY, file, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.decode().splitlines()]
    assert [int(place) for place, *_ in lines] == [1, 2, 3, 4]
    assert [float(score) for _, score, *_ in lines] == [round(match["score"], 4) for match in expected]
    assert ["".join(text) for _, _, *text in lines] == [match["text"] for match in expected]


def test_rank_prints_json_of_the_best(tiny_cross_bundle: Path, tiny_cross_encoder: CrossEncoder) -> None:
    expected = tiny_cross_encoder.rank(QUERY, DOCUMENTS, top_k=2, return_documents=True, prompt="find: ")
    options = ("--top-k", "2", "--prompt", "find: ", "--json", "--device", "cpu")
    done = monograph("rank", tiny_cross_bundle, QUERY, "-", *options, stdin="\n".join(DOCUMENTS).encode())
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [list(match) for match in printed] == [["corpus_id", "score", "text"]] * 2
    assert [match["corpus_id"] for match in printed] == [match["corpus_id"] for match in expected]
    assert [match["score"] for match in printed] == pytest.approx([match["score"] for match in expected], abs=1e-6)


def test_rank_of_nothing_prints_nothing(tiny_cross_bundle: Path) -> None:
    done = monograph("rank", tiny_cross_bundle, QUERY, "--device", "cpu")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads(monograph("rank", tiny_cross_bundle, QUERY, "--device", "cpu", "--json").stdout) == []


def test_what_rank_cannot_use_is_one_line(tiny_bundle: Path, tiny_cross_bundle: Path, file: Path) -> None:
    assert_error(monograph("rank", tiny_bundle, QUERY, file), 1, "its task is 'embedding'")
    assert_error(
        monograph("embed", tiny_cross_bundle, file),
        1,
        "the bundle is a cross-encoder, which gives no vectors: use `monograph rank`",
    )
    assert_error(monograph("rank", tiny_cross_bundle, QUERY, file.parent / "absent"), 1, "absent")
    assert_error(monograph("rank", tiny_cross_bundle, QUERY, file, "--top-k", "0"), 2, "--top-k")


def test_info_and_verify_speak_of_scores(tiny_cross_bundle: Path) -> None:
    done = monograph("info", tiny_cross_bundle)
    assert done.returncode == 0, done.stderr
    words = done.stdout.decode()
    for expected in ("rerank", "1 label, Sigmoid by default", "64 tokens", "query='search: '", "equal to torch"):
        assert expected in words
    assert "cosine" not in words
    assert "dimensions" not in words
    verified = monograph("verify", tiny_cross_bundle)
    assert verified.returncode == 0, verified.stdout
    assert "cosine" not in verified.stdout.decode()
    done = monograph("verify", tiny_cross_bundle, "--device", "cpu", "--json")
    [result] = json.loads(done.stdout)["verifications"]
    assert result["passed"]
    assert result["worst_cosine"] is None


def test_export_says_how_many_labels_there_are(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph_after_imports("export", tiny_cross_checkpoint, tmp_path / "bundle", "--task", "rerank")
    assert done.returncode == 0, done.stderr
    first, *results = done.stdout.decode().splitlines()
    assert first.endswith("MB, 1 label")
    assert results[0].startswith("cpu (onnxruntime")
    wrong = monograph_after_imports("export", tiny_cross_checkpoint, tmp_path / "other", "--task", "embedding")
    assert_error(wrong, 1, "is a cross-encoder, not an embedding model: leave out --task, or give 'rerank'")


def test_rank_by_late_interaction(file: Path) -> None:
    bundle = Path(__file__).parents[1] / "data" / "multi-vector"
    with MultiVectorEncoder(bundle, device="cpu") as model:
        expected = model.rank(QUERY, DOCUMENTS, top_k=3, return_documents=True)
    done = monograph("rank", bundle, QUERY, file, "--device", "cpu", "--top-k", "3", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [match["corpus_id"] for match in printed] == [match["corpus_id"] for match in expected]
    assert [match["score"] for match in printed] == pytest.approx([match["score"] for match in expected], abs=1e-5)
    refused = monograph("rank", bundle, QUERY, file, "--prompt", "find: ", "--device", "cpu")
    assert_error(refused, 1, "queries and documents have prompts of their own: leave out --prompt")
    assert_error(
        monograph("embed", bundle, file, "--device", "cpu"),
        1,
        "it has 'document', 'query': name one (task=, --task)",
    )
    info = monograph("info", bundle).stdout.decode()
    assert "8 dimensions for each token, unit length, maxsim similarity" in info
    assert "'query' by query" in info
