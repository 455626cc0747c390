"""Retrieve texts by their vectors, and re-rank the best of them with a cross-encoder.

python examples/retrieve_and_rerank.py BUNDLE RERANKER
python examples/retrieve_and_rerank.py BUNDLE RERANKER --texts FILE "a question" "another question"

The vectors of all texts are computed once, and comparing them with a question is cheap. A cross-encoder reads question
and text together, which is more accurate but takes a run of the model per pair: so it scores only the candidates.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monograph import CrossEncoder, Embedder

TEXTS = (
    "The night bus to the airport leaves every forty minutes from the old post office.",
    "The first bus to the airport on Sundays leaves at half past five.",
    "Refunds are paid to the card that was used, within ten working days.",
    "Without a receipt we exchange goods and pay nothing back.",
    "To reset the router, hold the small button at the back until the lights go out.",
    "The lights of the stairs go out by themselves after three minutes.",
    "The upper path is closed after heavy rain because stones may fall on it.",
    "After heavy rain the lower path is muddy, and open.",
)
QUESTIONS = ("How do I get my money back?", "Which path can I take when it has rained?")


def retrieve(model: Embedder, questions: Sequence[str], texts: Sequence[str], candidates: int) -> list[list[int]]:
    """Return for each question the positions of the texts whose vectors are nearest, nearest first."""
    scores = model.similarity(model.encode_query(list(questions)), model.encode_document(list(texts)))
    return [row.tolist() for row in np.argsort(-scores, axis=1, kind="stable")[:, :candidates]]


def rerank(
    model: CrossEncoder, question: str, texts: Sequence[str], positions: Sequence[int], top: int
) -> list[tuple[int, float]]:
    """Return the positions of the best texts among ``positions`` with their scores, best first."""
    ranked = model.rank(question, [texts[position] for position in positions], top_k=top)
    return [(positions[document["corpus_id"]], document["score"]) for document in ranked]


def main() -> None:
    """Print the best texts for each question, each with its place among the candidates."""
    parser = argparse.ArgumentParser(
        description="Retrieve texts by their vectors and re-rank them with a cross-encoder."
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="of an embedding model")
    parser.add_argument("reranker", metavar="RERANKER", help="bundle of a cross-encoder")
    parser.add_argument("questions", metavar="QUESTION", nargs="*", default=QUESTIONS)
    parser.add_argument("--texts", type=Path, metavar="FILE", help="one text per line; default: eight built-in texts")
    parser.add_argument("--candidates", type=int, default=5, help="texts that are re-ranked; default: 5")
    parser.add_argument("--top", type=int, default=3, help="texts for each question; default: 3")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    texts = TEXTS if arguments.texts is None else arguments.texts.read_text(encoding="utf-8").splitlines()
    with Embedder(arguments.bundle, device=arguments.device) as embedder:
        candidates = retrieve(embedder, arguments.questions, texts, arguments.candidates)
    with CrossEncoder(arguments.reranker, device=arguments.device) as model:
        for question, positions in zip(arguments.questions, candidates, strict=True):
            print(question)
            for position, score in rerank(model, question, texts, positions, arguments.top):
                print(f"  {score:.3f}  (was {positions.index(position) + 1})  {texts[position]}")


if __name__ == "__main__":
    main()
