"""Time tokenization in a process of its own, for its pool of threads has one size: BUNDLE and a JSON file of texts."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from monograph.tokenization import TextTokenizer

_REPEATS = 5


def measure(bundle: Path, workloads: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Return the seconds of each workload: of the package alone, and with arrays made of its lists."""
    tokenizer = TextTokenizer(bundle / "tokenizer.json")
    results = {}
    for name, texts in workloads.items():
        tokenizer(texts)
        alone, whole = [], []
        for _ in range(_REPEATS):
            begin = time.perf_counter()
            tokenizer._encode(texts)
            between = time.perf_counter()
            tokenizer(texts)
            alone.append(between - begin)
            whole.append(time.perf_counter() - between)
        results[name] = {"alone": min(alone), "with_arrays": min(whole)}
    return results


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8")))))
