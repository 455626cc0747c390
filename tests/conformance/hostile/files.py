"""Files that are changed, missing, links or no files, and names that could leave the folder."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.hostile.changes import CHANGES, change_manifest, link, named, restate

WEIGHTS = "model.onnx.data"


def _flip(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)


for _name in ("tokenizer.json", "model.onnx", "probes.json", WEIGHTS):
    CHANGES[f"changed-{_name}"] = lambda bundle, name=_name: _flip(bundle, name)  # type: ignore[misc]
    CHANGES[f"missing-{_name}"] = lambda bundle, name=_name: (bundle / name).unlink()  # type: ignore[misc]


for _name in ("tokenizer.json", "model.onnx", "probes.json", WEIGHTS, "manifest.json"):
    CHANGES[f"link-{_name}"] = lambda bundle, name=_name: link(bundle, name)  # type: ignore[misc]


@named("pipe-tokenizer.json")
def _(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    os.mkfifo(bundle / "tokenizer.json")


@named("folder-probes.json")
def _(bundle: Path) -> None:
    (bundle / "probes.json").unlink()
    (bundle / "probes.json").mkdir()


@named("truncated-weights")
def _(bundle: Path) -> None:
    content = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes(content[:-64])


@named("truncated-weights-restated")
def _(bundle: Path) -> None:
    content = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes(content[:-64])
    restate(bundle, WEIGHTS)


@named("longer-weights")
def _(bundle: Path) -> None:
    with (bundle / WEIGHTS).open("ab") as file:
        file.write(b"more")


@named("missing-manifest.json")
def _(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


for _kind, _odd in {
    "parent": "..", "dot": ".", "empty": "", "in-parent": "../outside", "in-folder": "a/b", "backslash": "a\\b",
    "drive": "C:x", "absolute": "/etc/passwd", "line-break": "a\nb", "zero": "a\0b", "escape": "a\x1b[2J",
    "override": "a\u202eb", "line-separator": "a\u2028b",
}.items():  # fmt: skip
    change_manifest(
        f"name-{_kind}",
        lambda value, odd=_odd: value["files"].update({odd: {"bytes": 1, "sha256": "0" * 64}}),  # type: ignore[misc]
    )
