"""A bundle with fewer tokens embeds the texts that need no others as before, whatever kind its tokenizer is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from monograph import Embedder
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from monograph_export.vocabulary.options import NamedTexts, VocabularyOptions
from monograph_export.vocabulary.reduction import reduce_tokenizer
from monograph_export.vocabulary.scripts import Scripts
from support import checkpoints
from support.command import monograph
from support.tatoeba import Tatoeba

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 300,
}
# Positions of the RoBERTa-like ones count from the padding's id.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "WordPiece": (lambda: checkpoints.wordpiece(1000, lowercase=True), {"model_type": "bert", "vocab_size": 1000}),
    "Unigram": (lambda: checkpoints.unigram(1000), {"model_type": "xlm-roberta", "vocab_size": 1002}),
    "BPE": (lambda: checkpoints.byte_level_bpe(1500), {"model_type": "roberta", "vocab_size": 1500}),
}
TEXTS = [text for text in probe_sentences() if Scripts(("Latn", "Cyrl")).has(text.encode())]
OTHERS = [text for text in probe_sentences() if text not in TEXTS]


@pytest.mark.parametrize(
    "kind", [kind if kind == "Unigram" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_texts_of_the_corpus_embed_as_before(kind: str, tmp_path: Path) -> None:
    make, config = KINDS[kind]
    ids = {name: index for index, name in enumerate(("bos_token_id", "pad_token_id", "eos_token_id"))}
    shape = {**SIZE, **config, **({} if kind == "WordPiece" else ids)}
    transformer = checkpoints.save_transformer(shape, make(), tmp_path / "transformer")
    model = checkpoints.build_model(transformer, max_length=200, normalize=False)
    model.save(str(tmp_path / "checkpoint"), create_model_card=False)
    corpus, others = tmp_path / "corpus.txt", tmp_path / "others.txt"
    corpus.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    others.write_text("\n".join(OTHERS) + "\n", encoding="utf-8")
    weights = (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    export(tmp_path / "checkpoint", tmp_path / "bundle", keep_vocab=corpus, coverage=others)
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes() == weights
    output = monograph("info", tmp_path / "bundle").stdout.decode()
    for words in ("tokens kept: those that the texts of corpus.txt need", f"of {len(OTHERS)} texts of others.txt"):
        assert words in output
    expected = SentenceTransformer(str(tmp_path / "checkpoint"), device="cpu").encode(TEXTS, batch_size=1)
    for device in ("cpu", "openvino"):
        with Embedder(tmp_path / "bundle", device, "float32") as embedder:
            assert np.abs(embedder.encode(TEXTS) - expected).max() <= 1e-6 * max(1.0, float(np.abs(expected).max()))
            assert np.isfinite(embedder.encode(OTHERS)).all()
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    vocabulary = manifest["quality"]["vocabulary"]
    assert vocabulary["same_tokens"] == len(TEXTS)
    assert vocabulary["max_abs_difference"] <= 1e-6
    assert vocabulary["tokens"] == manifest["tokenizer"]["vocabulary_size"] < 0.9 * vocabulary["original_tokens"]
    assert "tokens kept" in monograph("info", tmp_path / "bundle").stdout.decode()


@pytest.mark.slow
def test_the_real_minilm_for_english(minilm: Path, minilm_embedder: Embedder, tatoeba: Tatoeba, tmp_path: Path) -> None:
    texts = tatoeba.english(2000)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(texts) + "\n", encoding="utf-8")
    done = monograph("export", minilm, tmp_path / "bundle", "--keep-vocab", corpus)
    assert done.returncode == 0, done.stderr
    with Embedder(tmp_path / "bundle", "cpu") as embedder:
        assert np.abs(embedder.encode(texts) - minilm_embedder.encode(texts)).max() <= 1e-6
        assert embedder.manifest.tokenizer.vocabulary_size < 10_000


@pytest.mark.parametrize(
    ("languages", "scripts"), [(("rus", "kat"), ("Latn", "Cyrl", "Geor")), (("ara", "heb"), ("Arab", "Hebr"))]
)
def test_a_real_large_vocabulary_splits_a_corpus_and_scripts_as_before(
    data: Path, tatoeba: Tatoeba, languages: tuple[str, ...], scripts: tuple[str, ...]
) -> None:
    tokenizer: Tokenizer = checkpoints.wordpiece_of(data / "mbert-vocab" / "vocab.txt", False).backend_tokenizer
    texts = [text for language in languages for text in tatoeba.sentences(language)]
    of_corpus = VocabularyOptions(corpora=(NamedTexts(tuple(texts), "corpus"),))
    for options in (of_corpus, VocabularyOptions(scripts=scripts)):
        part = reduce_tokenizer(tokenizer, options).tokenizer
        assert part.get_vocab_size() < tokenizer.get_vocab_size()
        of_scripts = Scripts(scripts)
        compared = texts if options.corpora else [text for text in texts if of_scripts.has(text.encode())]
        assert len(compared) > 0.9 * len(texts)
        for before, after in zip(tokenizer.encode_batch(compared), part.encode_batch(compared), strict=True):
            assert before.tokens == after.tokens
