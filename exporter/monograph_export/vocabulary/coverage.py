"""Two tokenizers of the same kind, one with a part of the other's tokens, compared over texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from monograph.quality import CoverageReport

# Texts tokenized at once.
CHUNK = 10_000


class Vocabularies:
    """A tokenizer, and the same with a part of its tokens; neither pads or truncates."""

    def __init__(self, whole: Tokenizer, part: Tokenizer, unknown: str | None) -> None:
        """Compare two tokenizers; ``unknown`` is the token for what is not known, None without one."""
        self._whole, self._part = whole, part
        self._new_ids = dict(_paired_ids(whole, part))
        self._unknown = [_id_of(side, unknown) for side in (whole, part)]

    def differing(self, texts: Sequence[str]) -> list[int]:
        """Return the positions of the texts that are not split into the same tokens."""
        return [position for position, same, _, _ in self._compared(texts) if not same]

    def usable(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are split into the same tokens and hold nothing unknown."""
        unknown, _ = self._unknown
        return [texts[at] for at, same, old_ids, _ in self._compared(texts) if same and unknown not in old_ids]

    def coverage(self, texts: Sequence[str], name: str) -> CoverageReport:
        """Return how the part tokenizes texts; special tokens are not counted."""
        same, before, after, unknown_before, unknown_after = 0, 0, 0, 0, 0
        old, new = self._unknown
        for _, is_same, old_ids, new_ids in self._compared(texts):
            same += is_same
            before += len(old_ids)
            after += len(new_ids)
            unknown_before += old_ids.count(old)
            unknown_after += new_ids.count(new)
        return CoverageReport(
            name=name,
            texts=len(texts),
            unchanged=same / max(1, len(texts)),
            unknown_before=unknown_before / max(1, before),
            unknown=unknown_after / max(1, after),
            growth=after / max(1, before),
        )

    def _compared(self, texts: Sequence[str]) -> Iterator[tuple[int, bool, list[int], list[int]]]:
        """Yield each text's position, whether its tokens are the same, and its ids in both, special ones left out."""
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            both = (side.encode_batch_fast(chunk, add_special_tokens=False) for side in (self._whole, self._part))
            for position, (old, new) in enumerate(zip(*both, strict=True), start):
                yield position, [self._new_ids.get(i) for i in old.ids] == new.ids, old.ids, new.ids


def _id_of(tokenizer: Tokenizer, token: str | None) -> int:
    """Return a token's id, -1 where there is none."""
    number = None if token is None else tokenizer.token_to_id(token)
    return -1 if number is None else int(number)


def _paired_ids(whole: Tokenizer, part: Tokenizer) -> Iterator[tuple[int, int]]:
    ids = whole.get_vocab(with_added_tokens=True)
    for token, number in part.get_vocab(with_added_tokens=True).items():
        yield ids[token], number
