"""The longest text that a model can take, where its settings allow longer ones than it has positions for.

RoBERTa and its relatives keep the first positions of their table for padding: of 514 rows 512 are for tokens, and many
checkpoints state 514. Sentence Transformers fails at a text of more than 512 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from monograph.errors import ExportError

# transformers gives a tokenizer without a stated limit an astronomic one.
NO_LIMIT = 10**9


def checked_length(limit: object, name: object, setting: str) -> int | None:
    """Return a stated maximum length in tokens, None where it states that there is none.

    Raises:
        ExportError: it is not a number of tokens.

    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 1 <= limit < float("inf"):
        raise ExportError(
            f"{name}: {setting} is {limit!r} and not a number of tokens: set max_seq_length in "
            "sentence_bert_config.json to one, 512 for example"
        )
    return int(limit) if limit < NO_LIMIT else None


def check_room(limit: int, tokens: int, name: object) -> None:
    """Refuse a maximum length below the tokens that every text has.

    Raises:
        ExportError: the special tokens alone are as many, and transformers then truncates nothing.

    """
    if limit < tokens:
        raise ExportError(
            f"{name}: a maximum length of {limit} tokens leaves no room beside the special tokens: set max_seq_length "
            "in sentence_bert_config.json to a larger number, 512 for example"
        )


def lowered_length(
    runs: Callable[[int], bool], limit: int | None, positions: int, guesses: Iterable[int]
) -> int | None:
    """Return the number of tokens up to which a model runs, where that is below ``limit``; None where it is not.

    A model that runs beyond its table of so many ``positions`` does not depend on it. One that runs on no text fails
    for another reason, which is reported where the reference is computed.

    ``guesses`` are tried before the search, which halves: a model computes a whole text for each number tried.
    """
    too_long, possible = positions + 1 if limit is None else min(limit, positions + 1), 0
    if runs(too_long):
        return None
    for guess in sorted({guess for guess in guesses if 0 < guess < too_long}, reverse=True):
        if guess >= too_long:
            continue
        if runs(guess):
            possible = guess
            break
        too_long = guess
    while too_long - possible > 1:
        middle = (too_long + possible) // 2
        if runs(middle):
            possible = middle
        else:
            too_long = middle
    return possible or None


def describe_truncation(name: object, stated: int | None, longest: int, texts: str) -> str:
    """Return the warning that longer texts than ``longest`` tokens are truncated, whatever the checkpoint states."""
    states = "states no maximum length" if stated is None else f"states a maximum length of {stated} tokens"
    return (
        f"{name} {states}, and has positions for {longest}: {texts} are truncated at {longest} tokens, "
        "where sentence-transformers fails"
    )


def tiled(row: Any, length: int) -> Any:
    """Return as many values of a row [1, n], an array or tensor, over and over: [1, ``length``]."""
    return row[:, [position % row.shape[1] for position in range(length)]]
