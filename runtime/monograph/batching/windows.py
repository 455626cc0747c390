"""Cut a stream of texts into windows that are tokenized and sorted together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# Large enough that sorting by length leaves little padding, small enough that an interrupt costs little work: a
# window is what `monograph embed` writes and resumes by. At 20 texts/s, as a large model has them on two cores, 2,048
# texts are 100 s and 8,192 were 7 minutes; the price is 2 % of padding (docs/performance.md).
WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 500_000


def windows(
    texts: Iterable[str], max_texts: int = WINDOW_TEXTS, max_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[str]]:
    """Yield the texts in order as lists of bounded number and size; one text may alone exceed the size."""
    window: list[str] = []
    characters = 0
    for text in texts:
        if window and characters + len(text) > max_characters:
            yield window
            window, characters = [], 0
        window.append(text)
        characters += len(text)
        # At once and not with the next text, which may be long in coming or never be read.
        if len(window) >= max_texts:
            yield window
            window, characters = [], 0
    if window:
        yield window
