"""The registry of hostile bundles: functions that change one thing in a copy of a good bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from support.manifests import edit_manifest, state_file

Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {}


def named(name: str) -> Callable[[Change], Change]:
    """Return a decorator that registers a change under a name."""

    def register(change: Change) -> Change:
        CHANGES[name] = change
        return change

    return register


def restate(bundle: Path, name: str) -> None:
    """State the size and hash of a file that was changed, so that another check has to find it."""
    state_file(bundle, name, hashlib.sha256((bundle / name).read_bytes()).hexdigest())


def link(bundle: Path, name: str) -> None:
    """Put a link in the place of a file."""
    (bundle / name).rename(bundle / f"real-{name}")
    (bundle / name).symlink_to(f"real-{name}")


def change_manifest(name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Register a change of the parsed manifest."""
    CHANGES[f"manifest-{name}"] = lambda bundle: edit_manifest(bundle, change)


def change_values(
    prefix: str, part_of: Callable[[dict[str, Any]], Any], values: Mapping[str, Mapping[str, object]]
) -> None:
    """Register a change of the manifest for each value: of a key of a part, by a word that describes the value."""
    for key, ones in values.items():
        for word, one in ones.items():
            change_manifest(
                f"{prefix}-{key}-{word}",
                lambda manifest, key=key, one=one: part_of(manifest).update({key: one}),  # type: ignore[misc]
            )


def change_text(name: str, old: str, new: str) -> None:
    """Register a change of the manifest's text that no JSON writer makes."""

    def change(bundle: Path) -> None:
        path = bundle / "manifest.json"
        text = json.dumps(json.loads(path.read_bytes()))
        changed = text.replace(old, new, 1)
        assert changed != text
        path.write_bytes(changed.encode("utf-8"))

    CHANGES[f"manifest-{name}"] = change


def change_json(file: str, prefix: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Register a change of a parsed JSON file."""

    def apply(bundle: Path) -> None:
        path = bundle / file
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")
        restate(bundle, file)

    CHANGES[f"{prefix}-{name}"] = apply


def change_graph(name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Register a change of the parsed graph."""

    def apply(bundle: Path) -> None:
        path = bundle / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())
        restate(bundle, "model.onnx")

    CHANGES[f"graph-{name}"] = apply


def change_graph_bytes(name: str, change: Callable[[bytes], bytes]) -> None:
    """Register a change of the graph's bytes."""

    def apply(bundle: Path) -> None:
        path = bundle / "model.onnx"
        path.write_bytes(change(path.read_bytes()))
        restate(bundle, "model.onnx")

    CHANGES[f"graph-{name}"] = apply
