"""A peer in a process of its own, and its results beside those of sentence-transformers in torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

from monograph.inputs import Input
from monograph_bench.peers.catalog import PEERS
from monograph_bench.peers.systems import peer_systems
from monograph_bench.process import SystemProcess
from monograph_bench.systems import System
from monograph_export.probe_texts import probe_sentences

# Every script, every length up to beyond where MiniLM cuts texts, and an empty text.
TEXTS = [*probe_sentences()[:48], "", "Word " * 300]
TIMEOUT = 300.0
PAIRS = list(zip(TEXTS, [*TEXTS[1:], TEXTS[0]], strict=True))


def check_logits(name: str, checkpoint: Path, home: Path, folder: Path) -> None:
    """Compare a peer's scores of PAIRS with those of torch, without the model's prompt."""
    scores, described = measured_peer(peer_system(name, checkpoint, home, "rerank"), folder, PAIRS)
    model = CrossEncoder(str(checkpoint), device="cpu")
    expected = model.predict(PAIRS, prompt="", activation_fn=torch.nn.Identity(), show_progress_bar=False)
    tolerance = np.ptp(expected) * PEERS[name].max_score_difference
    np.testing.assert_allclose(scores, expected, atol=tolerance)
    # With the model's own prompt they would be others.
    prompted = model.predict(PAIRS, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    assert np.abs(prompted - expected).max() > tolerance
    assert described["threads"] == "1"


def check_sparse(name: str, checkpoint: Path, home: Path, folder: Path) -> None:
    """Compare a peer's sparse vectors of TEXTS with those of torch."""
    vectors, described = measured_peer(peer_system(name, checkpoint, home, "sparse"), folder)
    model = SparseEncoder(str(checkpoint), device="cpu")
    expected = model.encode(TEXTS, batch_size=8, show_progress_bar=False).to_dense().numpy()
    assert 0 < (expected != 0).mean() < 1
    assert worst_cosine(vectors, expected) > PEERS[name].min_cosine
    assert described["threads"] == "1"


def peer_system(name: str, checkpoint: Path, home: Path, task: str = "embedding") -> System:
    """Return the system of a peer, which must be there."""
    systems, reasons = peer_systems([name], checkpoint, threads=1, home=home, task=task)
    assert not reasons
    return systems[0]


def measured_peer(
    system: System, folder: Path, given: Sequence[Input] = TEXTS
) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Return the vectors of TEXTS, or scores of pairs, from a system in its own process, and what it says of itself."""
    texts, vectors = folder / "texts.json", folder / "vectors.npy"
    texts.write_text(json.dumps(given))
    with SystemProcess(system, sorted(os.sched_getaffinity(0))[:1], TIMEOUT) as running:
        running.request("read", name="texts", file=str(texts))
        running.request("encode", name="texts", batch_size=8, vectors=str(vectors))
        described: dict[str, str] = running.described
    results: NDArray[np.float32] = np.load(vectors)
    return results, described


def torch_vectors(checkpoint: Path) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for TEXTS, float32 [n, d]."""
    return encoded(SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True))


def encoded(model: Any) -> NDArray[np.float32]:
    """Return a model's vectors of TEXTS, float32 [n, d]."""
    vectors: NDArray[np.float32] = model.encode(TEXTS, batch_size=8, show_progress_bar=False)
    return vectors


def worst_cosine(vectors: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the minimum cosine of two vectors of the same text."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((vectors * expected).sum(axis=1) / norms).min())


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
