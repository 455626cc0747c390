"""Token ids truncated, padded and made into arrays, by the arguments of tokenizers of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from monograph.errors import InputError
from monograph.tensors import import_torch

_PADDINGS = (False, None, "do_not_pad", True, "longest", "max_length")
_TRUNCATIONS = (False, None, "do_not_truncate", True, "longest_first")
_TENSORS = (None, "np", "pt")


def encode(
    tokenizer: Tokenizer,
    firsts: Sequence[str],
    seconds: Sequence[str] | None,
    max_length: int | None,
    add_special_tokens: bool,
) -> list[Encoding]:
    """Return the encodings of texts or pairs, of at most ``max_length`` tokens, special ones included; None for all.

    A pair is cut as transformers' "longest_first" does: tokens come off the longer text, down to the shorter's length,
    and then off both.

    Raises:
        InputError: special tokens alone are more.

    """
    if max_length is None:
        inputs = list(firsts) if seconds is None else list(zip(firsts, seconds, strict=True))
        return list(tokenizer.encode_batch(inputs, add_special_tokens=add_special_tokens))
    special = tokenizer.num_special_tokens_to_add(seconds is not None) if add_special_tokens else 0
    if special > max_length:
        raise InputError(f"max_length {max_length} leaves no room: the tokenizer adds {special} special tokens")
    texts = [firsts] if seconds is None else [firsts, seconds]
    sides = [tokenizer.encode_batch(list(side), add_special_tokens=False) for side in texts]
    cut = list[Encoding]()
    for one in zip(*sides, strict=True):
        for encoding, length in zip(one, _cut_lengths([len(side) for side in one], max_length - special), strict=True):
            encoding.truncate(length)
        pair = None if seconds is None else one[1]
        cut.append(tokenizer.post_process(one[0], pair, add_special_tokens))
    return cut


def _cut_lengths(lengths: Sequence[int], room: int) -> list[int]:
    if sum(lengths) <= room:
        return list(lengths)
    if len(lengths) == 1:
        return [room]
    shorter = min(lengths)
    if 2 * shorter <= room:
        return [min(length, room - shorter) for length in lengths]
    # Of an odd number, the longer text has one more, and the second of two that are equal.
    half = room // 2
    return [half, room - half] if lengths[0] <= lengths[1] else [room - half, half]


def truncation_length(truncation: object, padding: object, max_length: int | None, limit: int | None) -> int | None:
    """Return the number of tokens to cut texts to, None for none, as transformers reads these arguments.

    Raises:
        InputError: ``truncation`` is not known, or there is no limit to truncate to.

    """
    if truncation not in _TRUNCATIONS:
        raise InputError(f"truncation must be True, False or 'longest_first', got {truncation!r}")
    if truncation in (False, "do_not_truncate"):
        return None
    if truncation is None:
        # Without a word on truncation, a length alone says it.
        return max_length if padding in (False, None, "do_not_pad") else None
    if max_length is None and limit is None:
        raise InputError("truncation=True needs max_length=: this model does not truncate")
    return limit if max_length is None else max_length


def pad(encodings: Sequence[Encoding], padding: object, length: int | None, pad_token_id: int) -> None:
    """Pad encodings on the right, in place.

    Raises:
        InputError: ``padding`` is not known, or "max_length" without a length.

    """
    if padding not in _PADDINGS:
        raise InputError(f"padding must be True, False, 'longest' or 'max_length', got {padding!r}")
    if padding in (False, None, "do_not_pad"):
        return
    if padding == "max_length" and length is None:
        raise InputError("padding='max_length' needs max_length=: this model has no maximum length")
    longest = max(map(len, encodings), default=0)
    width = longest if padding != "max_length" or length is None else length
    for encoding in encodings:
        encoding.pad(width, pad_id=pad_token_id)


def check_tensors(return_tensors: object) -> None:
    """Refuse what is no kind of tensors, and torch's where torch is missing, before anything is tokenized.

    Raises:
        InputError: it is neither None, "np" nor "pt", or torch is not installed.

    """
    if return_tensors not in _TENSORS:
        raise InputError(f"return_tensors must be 'np', 'pt' or None, got {return_tensors!r}")
    if return_tensors == "pt":
        import_torch()


def as_tensors(columns: dict[str, list[list[int]]], return_tensors: object) -> dict[str, Any]:
    """Return the columns as NumPy arrays or torch tensors int64 [n, s], or as they are.

    Raises:
        InputError: the rows have several lengths.

    """
    if return_tensors is None:
        return dict(columns)
    widths = {len(row) for row in columns["input_ids"]} or {0}
    if len(widths) > 1:
        raise InputError(
            f"return_tensors={return_tensors!r} needs texts of one length: give padding=True, or call preprocess"
        )
    shape = len(columns["input_ids"]), *widths
    arrays = {name: np.array(rows, dtype=np.int64).reshape(shape) for name, rows in columns.items()}
    if return_tensors == "np":
        return arrays
    torch = import_torch()
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
