"""monograph's own reader as the suite runs it, in this process: a Python process for each bundle would take minutes."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from tokenizers import Tokenizer

from conformance.check import Outcome
from monograph import Embedder
from monograph.bundle import open_bundle, read_probes
from monograph.errors import MonographError
from monograph.inference.opening import open_routes
from monograph.inference.verification import verify


def read_with_python(command: str, bundle: Path, content: bytes = b"") -> Outcome:
    """Run a command of the suite's protocol."""
    try:
        if command == "verify":
            return _verify(bundle)
        return Outcome(0, json.dumps(_conform(bundle, content)).encode(), "")
    except MonographError as error:
        return Outcome(1, b"", str(error))


def _verify(path: Path) -> Outcome:
    bundle = open_bundle(path, "full")
    with closing(open_routes(bundle, device="cpu", compute_dtype="auto", threads=1)) as routes:
        result = verify(routes, read_probes(bundle.path, bundle.manifest.output_width))
    return Outcome(0 if result.passed else 1, result.reason.encode(), "")


def _conform(path: Path, content: bytes) -> dict[str, object]:
    texts = [text.decode() for text in content.split(b"\0")[:-1]]
    with Embedder(path, device="cpu", threads=1) as model:
        tokenizer = Tokenizer.from_file(str(path / model.manifest.tokenizer.file))
        tokenizer.no_padding()
        return {
            "ids": [encoding.ids for encoding in tokenizer.encode_batch(texts)],
            "alone": [model.encode(text, prompt="").tolist() for text in texts],
            "batched": model.encode(texts, prompt="").tolist(),
        }


def main() -> int:
    """Run one command, as the protocol has it."""
    command, bundle = sys.argv[1:]
    outcome = read_with_python(command, Path(bundle), sys.stdin.buffer.read() if command == "conformance" else b"")
    sys.stdout.buffer.write(outcome.output)
    if outcome.error:
        print(outcome.error, file=sys.stderr)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
