"""Search texts by meaning.

python examples/semantic_search.py BUNDLE
python examples/semantic_search.py BUNDLE --texts FILE "a question" "another question"
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph import Embedder

TEXTS = (
    "The night bus to the airport leaves every forty minutes from the old post office.",
    "Tomatoes need at least six hours of sun a day and water at the roots, not on the leaves.",
    "To reset the router, hold the small button at the back until the lights go out.",
    "The swimming pool opens at seven on weekdays and at nine on Sundays.",
    "A sourdough starter is fed with equal weights of flour and water once a day.",
    "Refunds are paid to the card that was used, within ten working days.",
    "Loud grinding when braking usually means that the pads are worn down to the metal.",
    "The choir rehearses on Thursdays and welcomes singers who cannot read music.",
    "Store the medicine in the fridge, and throw it away thirty days after opening.",
    "The upper path is closed after heavy rain because stones may fall on it.",
    "Dogs must be on a lead in the park, except on the meadow behind the lake.",
    "Contracts may be ended in writing with one month's notice.",
)
QUESTIONS = (
    "How do I get my money back?",
    "My car makes an awful noise when I stop",
    "Is hiking there dangerous in bad weather?",
    "the internet connection does not work",
)


def search(
    model: Embedder, questions: Sequence[str], texts: Iterable[str], top: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the best scores and the positions of their texts, both [number of questions, at most ``top``].

    Texts are embedded and compared block by block, so that neither texts nor vectors are all in memory at once.
    """
    queries = model.encode_query(list(questions))
    # encode_iter has no variant for documents, so their prompt is passed by name.
    prompts = model.manifest.prompts
    prompt_name = next((name for name in ("document", "passage", "corpus") if name in prompts), None)
    scores: NDArray[np.float32] = np.empty((len(queries), 0), dtype=np.float32)
    positions: NDArray[np.intp] = np.empty((len(queries), 0), dtype=np.intp)
    done = 0
    for block in model.encode_iter(texts, prompt_name=prompt_name):
        block_positions = np.arange(done, done + len(block), dtype=np.intp)
        scores = np.concatenate([scores, model.similarity(queries, block)], axis=1)
        block_rows = np.broadcast_to(block_positions, (len(queries), len(block)))
        positions = np.concatenate([positions, block_rows], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        scores, positions = np.take_along_axis(scores, best, axis=1), np.take_along_axis(positions, best, axis=1)
        done += len(block)
    return scores, positions


def main() -> None:
    """Print the best texts for each question."""
    parser = argparse.ArgumentParser(description="Search texts by meaning.")
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("questions", metavar="QUESTION", nargs="*", default=QUESTIONS)
    parser.add_argument("--texts", type=Path, metavar="FILE", help="one text per line; default: a dozen built-in texts")
    parser.add_argument("--top", type=int, default=3, help="texts for each question; default: 3")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    texts = TEXTS if arguments.texts is None else arguments.texts.read_text(encoding="utf-8").splitlines()
    with Embedder(arguments.bundle, device=arguments.device) as model:
        scores, positions = search(model, arguments.questions, texts, arguments.top)
    for question, row, row_positions in zip(arguments.questions, scores, positions, strict=True):
        print(question)
        for score, position in zip(row, row_positions, strict=True):
            print(f"  {score:.3f}  {texts[position]}")


if __name__ == "__main__":
    main()
