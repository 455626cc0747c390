"""The table of architectures: each, with the pooling it usually has, equals sentence-transformers at batch size 1.

A checkpoint is saved by sentence-transformers, which gives the reference, and exported as its older releases spell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from monograph import Bundle, Embedder
from monograph.engines import dtypes_of
from monograph_export import export
from support import checkpoints
from support.architectures import ARCHITECTURES, MAX_LENGTH

SENTENCE = "seven grey geese flew over the quiet harbour before the rain began and nobody in the café looked up"
# From one token beside the special ones to more than the maximum length, in no order, so that batches are ragged.
TEXTS = ["a", "", *(" ".join((SENTENCE.split() * 5)[:count]) for count in (30, 1, 90, 3, 12, 60, 2, 7)), "x" * 90]
TOLERANCE = 1e-5
MIN_COSINE = 0.999


@dataclass(frozen=True)
class Exported:
    bundle: Bundle
    reference: NDArray[np.float32]


# With the operators of all others, which run by night.
BY_DAY = ("MPNet", "DeBERTa-v2", "T5 encoder", "Qwen3")


@pytest.fixture(
    scope="module",
    params=[name if name in BY_DAY else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("architecture")
    checkpoint = ARCHITECTURES[request.param].save(folder)
    torch_model: Any = SentenceTransformer(str(checkpoint), device="cpu")
    counts = np.array([len(torch_model.preprocess([text])["input_ids"][0]) for text in TEXTS])
    assert MAX_LENGTH in counts
    reference = torch_model.encode(TEXTS, batch_size=1, show_progress_bar=False)
    # Texts that were cut may be the same.
    whole = reference[counts < MAX_LENGTH]
    assert (whole @ whole.T - np.eye(len(whole))).max() < MIN_COSINE, "another text's vector would do"
    bundle = export(checkpoints.respell_as_legacy(checkpoint), folder / "bundle")
    return Exported(bundle, reference)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")])
def test_architecture(exported: Exported, device: str, dtype: str) -> None:
    if dtype not in dtypes_of(device):
        pytest.skip(f"this CPU does not multiply in {dtype}")
    with Embedder(exported.bundle.path, device=device, compute_dtype=dtype) as model:
        together = model.encode(TEXTS)
        alone = np.stack([model.encode(text) for text in TEXTS])
        pairs = model.encode(TEXTS, batch_size=2)
    reference = exported.reference
    for actual in (together, alone, pairs):
        if dtype == "float32":
            assert np.abs(actual - reference).max() <= TOLERANCE * max(1.0, float(np.abs(reference).max()))
        else:
            # Of unit length, so the product is the cosine.
            assert (actual * reference).sum(axis=1).min() >= MIN_COSINE
