"""Cut a stream of texts into windows that are tokenized and sorted together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# Large enough that sorting by length leaves little padding, small enough that the token ids of a window are a
# few megabytes whatever the corpus.
WINDOW_TEXTS = 8192
WINDOW_CHARACTERS = 2_000_000


def windows(
    texts: Iterable[str], max_texts: int = WINDOW_TEXTS, max_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[str]]:
    """Yield the texts in order as lists of bounded number and size; one text may alone exceed the size."""
    window: list[str] = []
    characters = 0
    for text in texts:
        if window and (len(window) >= max_texts or characters + len(text) > max_characters):
            yield window
            window, characters = [], 0
        window.append(text)
        characters += len(text)
    if window:
        yield window
