"""The real MiniLM at int8: how near it is to sentence-transformers, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder
from monograph.bundle import read_probes
from monograph.similarity import similarity_pairwise
from monograph_export import export
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support.command import assert_error, monograph_after_imports
from support.quality import cranfield_ndcg10, sts17_spearman
from support.tatoeba import Tatoeba

MB = 1e6


@pytest.fixture(scope="module")
def bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minilm-int8")
    return export(minilm, folder / "bundle", precision="int8", recipe="all-MiniLM-L6-v2").path


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def model(bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(bundle, request.param) as model:
        yield model


def by_torch(reference: Any, texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = reference.encode(texts, batch_size=32, show_progress_bar=False)
    return vectors


@pytest.mark.slow
def test_the_weights_are_a_quarter(bundle: Path) -> None:
    assert (bundle / "model.onnx.data").stat().st_size <= 24 * MB


@pytest.mark.slow
def test_unseen_english_sentences_stay_near(model: Embedder, minilm_torch: Any, tatoeba: Tatoeba) -> None:
    texts = tatoeba.english(5000)
    agreement = EMBEDDING_EXPORT.agreement(by_torch(minilm_torch, texts), model.encode(texts))
    print(f"\n{model.device}: {agreement}")
    assert agreement.mean_cosine >= 0.9985
    assert agreement.worst_cosine >= 0.985
    assert agreement.neighbour_agreement >= 0.90


@pytest.mark.slow
def test_a_tighter_limit_is_met_by_ranges_of_each_token(
    minilm: Path, minilm_torch: Any, tatoeba: Tatoeba, tmp_path: Path
) -> None:
    bundle = export(minilm, tmp_path / "bundle", precision="int8", min_mean_cosine=0.999)
    compression: Any = bundle.manifest.quality.compression
    names = compression.layers.token_ranges
    print(f"\nranges of each token: {names}; {compression.agreement}")
    assert len(names) == 6
    assert all(name.endswith("output.dense") for name in names)
    texts = tatoeba.english(5000)
    reference = by_torch(minilm_torch, texts)
    for device in ("cpu", "openvino"):
        with Embedder(bundle.path, device) as model:
            agreement = EMBEDDING_EXPORT.agreement(reference, model.encode(texts))
        print(f"{device}: {agreement}")
        assert agreement.mean_cosine >= 0.999
        assert agreement.worst_cosine >= 0.99


# Of the pairs that MiniLM scores well above chance: across languages, at 16 points of es-en for example, every rounding
# moves the score by up to a point, up or down.
@pytest.mark.slow
@pytest.mark.parametrize("track", ["track5.en-en", "track3.es-es"])
def test_int8_preserves_similarity_scores(model: Embedder, minilm_torch: Any, data: Path, track: str) -> None:
    before = sts17_spearman(lambda texts: by_torch(minilm_torch, texts), data / "sts17", track)
    after = sts17_spearman(model.encode, data / "sts17", track)
    print(f"\n{model.device} {track}: Spearman {before:.2f} at float32, {after:.2f} at int8")
    assert after >= before - 0.5


@pytest.mark.slow
def test_int8_preserves_retrieval_quality(model: Embedder, minilm_torch: Any, data: Path) -> None:
    before = cranfield_ndcg10(lambda texts: by_torch(minilm_torch, texts), data / "cranfield")
    after = cranfield_ndcg10(model.encode, data / "cranfield")
    print(f"\n{model.device}: Cranfield nDCG@10 {before:.4f} at float32, {after:.4f} at int8")
    assert after >= before * 0.99


@pytest.mark.slow
def test_no_length_is_worse_than_the_others(model: Embedder, bundle: Path, minilm_torch: Any) -> None:
    (probes,) = read_probes(bundle)
    chosen = [i for i, count in enumerate(probes.token_counts) if count <= 130]
    texts = [probes.single_texts[i] for i in chosen]
    cosines = similarity_pairwise("cosine", model.encode(texts), by_torch(minilm_torch, texts))
    worst = int(cosines.argmin())
    print(f"\n{model.device}: worst cosine {cosines[worst]:.4f} at {probes.token_counts[chosen[worst]]} tokens")
    assert {probes.token_counts[i] for i in chosen} >= set(range(3, 131))
    assert cosines.min() >= 0.95


@pytest.mark.slow
def test_a_text_is_the_same_alone_and_among_others(model: Embedder, tatoeba: Tatoeba) -> None:
    texts = tatoeba.mixed(300)
    alone = np.stack([model.encode(text) for text in texts])
    for batch_size in (2, 16, 64):
        together = model.encode(texts, batch_size=batch_size)
        cosines = similarity_pairwise("cosine", alone, together)
        print(f"\n{model.device}: worst cosine of a text alone and among {batch_size}: {cosines.min():.6f}")
        assert cosines.min() >= 0.9999


@pytest.mark.parametrize(
    ("checkpoint", "limits"),
    [("tiny_checkpoint", ["--min-mean-cosine", "1"]), pytest.param("minilm", [], marks=pytest.mark.slow)],
)
def test_a_bad_calibration_file_is_refused_with_cause_and_layers(
    checkpoint: str, limits: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(checkpoint)
    file = tmp_path / "constant.txt"
    file.write_text("the same line\n" * 500)
    options = ("--precision", "int8", "--calibration", file, *limits)
    done = monograph_after_imports("export", source, tmp_path / "bundle", *options)
    words = ("too far from the original", "is below", "encoder.layer.", "1 of the 1 different lines", "a few hundred")
    assert_error(done, 1, *words)
    print(f"\n{done.stderr.decode()}")
    assert [path.name for path in tmp_path.iterdir()] == ["constant.txt"]
