"""Cross-encoders with int8 layers, on both engines: near to torch that rounds as they do, and sorting as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray
from torch import nn

from monograph import Bundle, CrossEncoder
from monograph.bundle import read_probes
from monograph.tasks.rerank import SCORE_TOLERANCE
from monograph_export import export
from monograph_export.tasks.rerank import RERANK_EXPORT, built_in_pairs
from support.cpu_features import needs_exact_int8
from support.cross_encoders import save_cross_encoder
from support.verification import verified_on_every_engine

pytestmark = [pytest.mark.slow, needs_exact_int8]

PAIRS = built_in_pairs().held_out


@dataclass(frozen=True)
class Exported:
    bundle: Bundle
    # The original's logits of PAIRS.
    logits: NDArray[np.float32]


@pytest.fixture(scope="module", params=["BERT", pytest.param("RoBERTa", marks=pytest.mark.slow)])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("int8-cross-encoder")
    checkpoint = save_cross_encoder(request.param, folder)
    original: Any = sentence_transformers.CrossEncoder(str(checkpoint), device="cpu", local_files_only=True)
    logits = original.predict(PAIRS, batch_size=16, activation_fn=nn.Identity(), show_progress_bar=False)
    with verified_on_every_engine():
        bundle = export(checkpoint, folder / "bundle", precision="int8")
    return Exported(bundle, np.asarray(logits, np.float32)[:, None])


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def model(exported: Exported, request: pytest.FixtureRequest) -> Iterator[CrossEncoder]:
    with CrossEncoder(exported.bundle.path, request.param) as model:
        yield model


def test_every_engine_was_verified(exported: Exported) -> None:
    results = exported.bundle.manifest.quality.verifications
    # An int8 graph is run at float32 between its products, and at nothing else.
    devices = [(result.device, result.compute_dtype) for result in results]
    assert devices == [("cpu", "float32"), ("openvino:CPU", "float32")]
    assert all(result.passed for result in results), results


def test_logits_are_near_those_of_torch_with_the_same_rounding(model: CrossEncoder, exported: Exported) -> None:
    [probes] = read_probes(exported.bundle.path)
    logits = model.predict(list(probes.texts), activation_fn="Identity", prompt="")
    difference = float(np.abs(logits - probes.vectors[:, 0]).max())
    print(f"\n{model.device}: max abs difference {difference:.1e}")
    # Of one layer; deeper models may differ by more, which the verification allows.
    assert difference <= SCORE_TOLERANCE * max(1.0, float(np.abs(probes.vectors).max()))


def test_pairs_are_sorted_as_by_the_original(model: CrossEncoder, exported: Exported) -> None:
    logits = model.predict(list(PAIRS), activation_fn="Identity")[:, None]
    agreement = RERANK_EXPORT.agreement(exported.logits, logits)
    print(f"\n{model.device}: {agreement}")
    assert agreement.spearman >= 0.99
    assert agreement.worst_difference <= 0.1


def test_a_pair_scores_the_same_alone_and_among_others(model: CrossEncoder) -> None:
    together = model.predict(list(PAIRS[:64]))
    alone = np.stack([model.predict(pair) for pair in PAIRS[:64]])
    assert np.abs(together - alone).max() <= 1e-5
