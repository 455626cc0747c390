"""Cut a stream of texts into windows that are tokenized and sorted together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from monograph.inputs import InputT, characters

# Large enough that sorting by length leaves little padding, small enough that an interrupt costs little work: a
# window is what `monograph embed` writes and resumes by. At 20 texts/s, as a large model has them on two cores, 2,048
# texts are 100 s and 8,192 were 7 minutes; the price is 2 % of padding (docs/performance.md).
WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 500_000


def windows(
    texts: Iterable[InputT], max_texts: int = WINDOW_TEXTS, max_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[InputT]]:
    """Yield texts, or pairs, in order as lists of bounded number and size; one may alone exceed the size."""
    window: list[InputT] = []
    size = 0
    for text in texts:
        length = characters(text)
        if window and size + length > max_characters:
            yield window
            window, size = [], 0
        window.append(text)
        size += length
        # At once and not with the next text, which may be long in coming or never be read.
        if len(window) >= max_texts:
            yield window
            window, size = [], 0
    if window:
        yield window
