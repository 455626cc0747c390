"""Checkpoints of real architectures with random weights, built from a config and saved by sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoConfig, AutoModel, BertTokenizerFast, PreTrainedTokenizerFast

from monograph_export.probe_texts import probe_sentences
from monograph_export.recipes import Recipe

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Of RoBERTa and XLM-R.
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TINY_BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 1200,
    "hidden_size": 32,
    # One: torch traces a second for as long again, in every test that exports. The systems have theirs.
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 300,
}


def wordpiece(vocab_size: int, lowercase: bool, sentences: Iterable[str] | None = None) -> BertTokenizerFast:
    """Train a WordPiece tokenizer on sentences, by default a few of the project's own: the same one each time."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    normalizer, splitter = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    texts = list(sentences or probe_sentences())
    words = (word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    # The trainer breaks ties by the tokens' numbers, and numbers these in the order of a hash table with a random seed.
    continued = [f"##{character}" for character in sorted({character for word in words for character in word[1:]})]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *continued], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BertTokenizerFast(vocab=tokenizer.get_vocab(with_added_tokens=True), do_lower_case=lowercase)


def wordpiece_of(vocab_file: Path, lowercase: bool) -> BertTokenizerFast:
    """Make a WordPiece tokenizer of a vocabulary file, a token a line."""
    tokens = vocab_file.read_text(encoding="utf-8").split("\n")
    return BertTokenizerFast(
        vocab={token: index for index, token in enumerate(tokens) if token}, do_lower_case=lowercase
    )


def unigram(vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a small Unigram tokenizer with the special tokens of XLM-R: the same one each time."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=ROBERTA_TOKENS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(probe_sentences(), trainer)
    # The trainer sums in threads, and numbers what no word needs in the order of a hash table with a random seed.
    pieces = [(piece, round(score, 2)) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    special, learned = pieces[: len(ROBERTA_TOKENS)], pieces[len(ROBERTA_TOKENS) :]
    learned.sort(key=lambda piece: (-piece[1], piece[0]))
    tokenizer.model = models.Unigram([*special, *learned], ROBERTA_TOKENS.index("<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return with_roberta_tokens(tokenizer)


def byte_level_bpe(vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a small byte-level BPE tokenizer with the special tokens of RoBERTa."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=ROBERTA_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(probe_sentences(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return with_roberta_tokens(tokenizer)


def with_roberta_tokens(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer as transformers loads one, with RoBERTa's special tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def save_transformer(config: dict[str, Any], tokenizer: Any, folder: Path, seed: int = 0) -> Path:
    """Save a transformer of a config with random weights, biases and norms included."""
    torch.manual_seed(seed)
    config = dict(config)
    model = AutoModel.from_config(AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases of 0 and scales of 1, as they are initialised, would hide one that an export drops.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_model(
    transformer: Path,
    *,
    max_length: int,
    pooling: str | Sequence[str] = "mean",
    dense: Iterable[dict[str, Any]] = (),
    normalize: bool = True,
    lowercase: bool = False,
    **options: Any,
) -> SentenceTransformer:
    """Put pooling, dense layers of random weights and normalisation behind a saved transformer."""
    torch.manual_seed(1)
    body = Transformer(str(transformer), max_seq_length=max_length, do_lower_case=lowercase)
    modules: list[nn.Module] = [body, Pooling(body.get_embedding_dimension(), pooling_mode=pooling)]
    for layer in dense:
        layer = dict(layer)
        activation = getattr(nn, layer.pop("activation"))()
        modules.append(Dense(**layer, activation_function=activation))
    if normalize:
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, device="cpu", **options)


def tiny(folder: Path, *, config: dict[str, Any] | None = None, max_length: int = 96, **options: Any) -> Path:
    """Save a tiny BERT checkpoint of realistic structure and return its folder."""
    transformer = save_transformer(config or TINY_BERT, wordpiece(1000, lowercase=True), folder / "transformer")
    model = build_model(transformer, max_length=max_length, **options)
    model.save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


def from_recipe(recipe: Recipe, folder: Path, vocab_file: Path | None = None) -> Path:
    """Save a checkpoint of a recipe's exact architecture with random weights and return its folder.

    ``vocab_file`` is a WordPiece vocabulary of the recipe's size; without one a small vocabulary is trained, and the
    table keeps its full number of rows.
    """
    shape = recipe.architecture
    lowercase = shape["lowercase"]
    if vocab_file is not None:
        tokenizer: Any = wordpiece_of(vocab_file, lowercase)
    elif shape["tokenizer"] == "Unigram":
        tokenizer = unigram(1000)
    else:
        tokenizer = wordpiece(1000, lowercase)
    transformer = save_transformer(shape["config"], tokenizer, folder / "transformer")
    model = build_model(
        transformer,
        max_length=recipe.max_length,
        pooling=shape["pooling"],
        dense=shape["dense"],
        normalize=recipe.normalized,
    )
    model.save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


def respell_as_legacy(checkpoint: Path) -> Path:
    """Rewrite a saved checkpoint in the spelling of sentence-transformers 3.4 and return it."""
    listing = checkpoint / "modules.json"
    modules = json.loads(listing.read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rsplit('.', 1)[1]}"
        config = checkpoint / module["path"] / "config.json"
        if module["type"].endswith("Pooling"):
            config.write_text(json.dumps(_legacy_pooling(json.loads(config.read_text()))))
    listing.write_text(json.dumps(modules))
    body = checkpoint / "sentence_bert_config.json"
    settings = json.loads(body.read_text()) if body.exists() else {}
    limit = json.loads((checkpoint / "tokenizer_config.json").read_text())["model_max_length"]
    body.write_text(json.dumps({"max_seq_length": settings.get("max_seq_length", limit), "do_lower_case": False}))
    return checkpoint


def _legacy_pooling(config: dict[str, Any]) -> dict[str, Any]:
    modes = config["pooling_mode"]
    modes = [modes] if isinstance(modes, str) else modes
    flags = {
        "cls": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "max": "pooling_mode_max_tokens",
        "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
        "weightedmean": "pooling_mode_weightedmean_tokens",
        "lasttoken": "pooling_mode_lasttoken",
    }
    return {
        "word_embedding_dimension": config["embedding_dimension"],
        **{flag: mode in modes for mode, flag in flags.items()},
        "include_prompt": True,
    }
