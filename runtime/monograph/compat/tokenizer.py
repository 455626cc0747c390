"""The tokenizer of a model by the names of transformers, read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from tokenizers import Tokenizer

from monograph.compat.encodings import as_tensors, check_tensors, encode, pad, truncation_length
from monograph.compat.opening import refuse_unknown
from monograph.errors import InputError
from monograph.inputs import Pair, check_count, check_named, check_pairs, check_texts

# The names of the unknown token where the model of the tokenizer does not state it.
_UNKNOWN = ("[UNK]", "<unk>")


class FamiliarTokenizer:
    """What callers ask of ``model.tokenizer``; the model itself does not go through it.

    Like a tokenizer of transformers it truncates only where a call says so; ``model_max_length`` says where the model
    does, None for nowhere.
    """

    __slots__ = ("_tokenizer", "model_max_length", "pad_token_id", "padding_side")

    def __init__(self, tokenizer: Tokenizer, model_max_length: int | None, pad_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.model_max_length = model_max_length
        self.pad_token_id = pad_token_id
        self.padding_side = "right"

    def __call__(
        self,
        text: str | Sequence[str] | Sequence[Pair],
        text_pair: str | Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = None,
        **unknown: object,
    ) -> dict[str, Any]:
        """Tokenize a text, or a list of texts or pairs, as a tokenizer of transformers does.

        Args:
            text: A text, or a list of texts or pairs.
            text_pair: The second text, or texts, of pairs.
            add_special_tokens: Add those of the model, such as [CLS] and [SEP].
            padding: True or "longest" pads to the longest text, "max_length" to ``max_length``; on the right.
            truncation: True or "longest_first" truncates to ``max_length``.
            max_length: Number of tokens, special ones included; None for ``model_max_length``.
            return_tensors: "np" or "pt" for arrays or torch tensors, None for lists.
            unknown: Other arguments of transformers, which are refused.

        Returns:
            ``input_ids``, ``token_type_ids`` and ``attention_mask``: a list of int for one text, else a list of lists;
            int64 [n, s] as arrays or tensors.

        Raises:
            InputError: a text or an argument is not valid.

        """
        refuse_unknown("the tokenizer of a bundle", unknown, "leave it out, or call that of the checkpoint")
        check_tensors(return_tensors)
        length = None if max_length is None else check_count(max_length, "max_length")
        cut = truncation_length(truncation, padding, length, self.model_max_length)
        firsts, seconds = _as_texts(text, text_pair)
        encodings = encode(self._tokenizer, firsts, seconds, cut, add_special_tokens)
        pad(encodings, padding, self.model_max_length if length is None else length, self.pad_token_id)
        columns = {
            "input_ids": [encoding.ids for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
        }
        if isinstance(text, str) and return_tensors is None:
            return {name: rows[0] for name, rows in columns.items()}
        return as_tensors(columns, return_tensors)

    def __repr__(self) -> str:
        return f"<tokenizer of a bundle: {len(self)} tokens, model_max_length={self.model_max_length}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"the tokenizer of a bundle has no {name!r}: use transformers.AutoTokenizer of the checkpoint for it",
                name=name,
                obj=self,
            )

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a text."""
        return list(self._tokenizer.encode(check_named(text, "text"), add_special_tokens=add_special_tokens).ids)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones."""
        return list(self._tokenizer.encode(check_named(text, "text"), add_special_tokens=False).tokens)

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""
        return str(self._tokenizer.decode([int(id_) for id_ in token_ids], skip_special_tokens=skip_special_tokens))

    def batch_decode(self, sequences: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Return the texts of several sequences of token ids."""
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]: ...
    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | list[str | None] | None:
        """Return the token of an id, or those of several; None where there is none."""
        if isinstance(ids, int):
            return self._tokenizer.id_to_token(ids)
        return [self._tokenizer.id_to_token(int(id_)) for id_ in ids]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...  # type: ignore[overload-overlap]
    @overload
    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int | None] | None:
        """Return the id of a token, or those of several; ``unk_token_id`` for one that is not in the vocabulary."""
        if isinstance(tokens, str):
            return self._id_of(tokens)
        return [self._id_of(token) for token in tokens]

    @property
    def unk_token_id(self) -> int | None:
        """Id of the unknown token; None where the vocabulary has none."""
        stated = getattr(self._tokenizer.model, "unk_token", None)
        ids = (self._tokenizer.token_to_id(name) for name in (*filter(None, [stated]), *_UNKNOWN))
        return next((id_ for id_ in ids if id_ is not None), None)

    def _id_of(self, token: str) -> int | None:
        known = self._tokenizer.token_to_id(token)
        return self.unk_token_id if known is None else known

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""
        return dict(self._tokenizer.get_vocab())

    @property
    def vocab_size(self) -> int:
        """Number of tokens, without those that were added."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())


def _as_texts(text: object, text_pair: object) -> tuple[list[str], list[str] | None]:
    """Return the first texts, and the second ones of pairs, None for single texts.

    Raises:
        InputError: a text is not valid, or there are not as many second texts as first ones.

    """
    if text_pair is None:
        if isinstance(text, (list, tuple)) and text and isinstance(text[0], (list, tuple)):
            pairs, _ = check_pairs(text)
            return [first for first, _ in pairs], [second for _, second in pairs]
        return check_texts([text] if isinstance(text, str) else text), None
    if isinstance(text, str) != isinstance(text_pair, str):
        raise InputError("text and text_pair must both be a str, or both a list of str")
    if isinstance(text, str):
        return check_texts([text]), check_texts([text_pair], "text_pair")
    firsts, seconds = check_texts(text), check_texts(text_pair, "text_pair")
    if len(firsts) != len(seconds):
        raise InputError(f"text_pair must have as many texts as text, {len(firsts)}, got {len(seconds)}")
    return firsts, seconds
