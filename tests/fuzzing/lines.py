"""Cases that are bytes of texts for `monograph embed` and `monograph rank`."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzzing import use
from fuzzing.byte_mutations import mutate_bytes
from fuzzing.case import Case, Kind
from fuzzing.json_mutations import hostile_value, to_bytes
from fuzzing.outcomes import ERROR, RESULT, Violation
from fuzzing.workplace import DATA

_TEXTS = (
    "a harbour at night",
    "",
    " ",
    "Zwölf Boote",
    "日本語の文",
    "\u2028 within",
    "tab\there",
    "x" * 3000,
    "🦆 " * 50,
    "a\x0cb",
    "a\x85b",
)
_ENDS = (b"\n", b"\r\n", b"\n\n", b"\r", b"\x00\n", b"\x0b", b"\xe2\x80\xa8")
_COMMANDS = ("embed", "rank")


@dataclass
class Lines:
    """A file of texts, and the command that reads it; ``field`` is that of JSON lines, None for plain ones."""

    command: str
    field: str | None
    content: bytes


class TextLines(Kind):
    """Every line is a result, or the file is one error; the number of results is that of the lines."""

    name = "lines"

    def start(self, random: random.Random) -> Lines:
        """Write a few texts."""
        command, json_lines = random.choice(_COMMANDS), random.random() < 0.6
        texts = [random.choice(_TEXTS) for _ in range(random.choice((0, 1, 3, 8)))]
        if not json_lines:
            return Lines(command, None, b"".join(text.encode() + b"\n" for text in texts))
        lines = [json.dumps(text) if random.random() < 0.3 else json.dumps({"text": text, "id": 1}) for text in texts]
        return Lines(command, random.choice(("text", "text", "body")), "".join(f"{line}\n" for line in lines).encode())

    def mutate(self, data: Lines, random: random.Random) -> str:
        """Change bytes, ends of lines, or one line into any JSON."""
        lines = data.content.split(b"\n")
        position = random.randrange(len(lines))
        action = random.choice(("bytes", "bytes", "end", "value", "field", "join", "mark"))
        if action == "bytes":
            data.content, action = mutate_bytes(data.content, random)
        elif action == "end":
            data.content = data.content.replace(b"\n", random.choice(_ENDS))
        elif action == "mark":
            data.content = random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PK")) + data.content
        else:
            if action == "value":
                lines[position] = to_bytes(hostile_value(random), random)
            elif action == "field":
                lines[position] = to_bytes({"text": hostile_value(random)}, random)
            else:
                lines[position] *= 3
            data.content = b"\n".join(lines)
        return action

    def run(self, case: Case) -> str:
        """Run the command and count what it prints."""
        place = self.root / "case"
        place.mkdir()
        try:
            return self._run(case.data, place)
        finally:
            shutil.rmtree(place)

    def save(self, case: Case, folder: Path) -> None:
        """Write the file."""
        (folder / f"{case.data.command}.{'txt' if case.data.field is None else 'jsonl'}").write_bytes(case.data.content)

    def _run(self, data: Lines, place: Path) -> str:
        file = place / ("texts" if data.field is None else "texts.jsonl")
        file.write_bytes(data.content)
        options = ["--device", self.device, "--threads", 1]
        if data.field is not None:
            options += ["--field", data.field]
        bundle = DATA / ("embedding" if data.command == "embed" else "rerank")
        arguments = ["a query", file, "--json"] if data.command == "rank" else [file]
        code, output = use.run_command(data.command, bundle, *arguments, *options)
        expected = _count_lines(data.content)
        if code:
            return ERROR
        if data.command == "rank":
            documents = json.loads(output)
            results, values = len(documents), [document["score"] for document in documents]
        else:
            vectors = [json.loads(line) for line in output.splitlines()]
            results, values = len(vectors), [value for vector in vectors for value in _vector(vector)]
        if results != expected:
            raise Violation("number of results", f"{results} for {expected} lines")
        if not np.isfinite(values).all():
            raise Violation("values of outputs", str(values[:4]))
        return RESULT


def _vector(value: object) -> list[float]:
    if isinstance(value, dict):
        value = value.get("embedding", value.get("vector"))
    if not isinstance(value, list) or len(value) != 24:
        raise Violation("line of output", repr(value)[:200])
    return value


def _count_lines(content: bytes) -> int:
    content = content.removeprefix(b"\xef\xbb\xbf")
    return content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
