"""Texts to token ids, with the Rust tokenizers package."""

from monograph.tokenization.tokenizer import TextTokenizer, TokenizedTexts

__all__ = ["TextTokenizer", "TokenizedTexts"]
