"""Mutations of a parsed JSON file, and the text of the result, with literals that json.dumps does not write."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

# What stands for a literal of its own in the parsed file, and is replaced in the text.
_MARK = "literal-\ue000-"
_LITERALS = (
    "1e400", "-1e400", "NaN", "Infinity", "-0.0", "1E-400", "1.0", "9" * 5000, "-" + "9" * 400, "[" * 5000,
    "[" * 900 + "]" * 900, '{"a":' * 900 + "0" + "}" * 900, '"\\ud800"', '"\\u0000"', '{"a": 1, "a": 2}', "tru", "",
    '"\x01"', "\ufeff1",
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, 7, 127, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 10**400,
    -(2**31) - 1, -(2**63), 0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"),
)  # fmt: skip
# fmt: off
_STRINGS = (
    "", " ", "\x00", "\x1b[31mred\x1b[0m", "a\nverified     on cpu: passed", "a\r\nb", "a\u2028b", "\u202eabc",
    "\x9b2J", "\x7f", "\ud800", "a\udfffb", "../outside.bin", "/etc/passwd", "..", ".", "a/b", "C:\\a", "manifest.json",
    "model.onnx", "model.onnx.data", "probes.json", "tokenizer.json", "g.onnx.data", "cpu", "cuda", "openvino", "fp16",
    "int8", "rerank", "sparse", "embedding", "float64", "int64", "batch", "right", "left", "cosine", "dot", "ai.onnx",
    "com.microsoft", "*/_ORT_MEM_ADDR_/*", "x" * 300, "x" * 200_000, "\N{COMBINING GRAVE ACCENT}" * 3000, "%s%n{0}",
    "日本語", "(" * 200 + ")" * 200, "(a+)+$", "(?:a|a)*b", "[a-z]{1,1000}{1,1000}", "\\p{L}+(?!x)", "unlisted.bin",
)
# fmt: on
Path = tuple[Any, ...]


def mutate_json(tree: Any, random: random.Random) -> tuple[Any, str]:
    """Return the tree with one mutation, which may share parts with it and may change it, and what was done."""
    path = _choose(tree, random)
    action = random.choice(tuple(_ACTIONS))
    if not path:
        if random.random() < 0.05:
            return hostile_value(random), "another value at the top"
        path = _choose(tree, random)
    if not path:
        return tree, "nothing"
    parent = _at(tree, path[:-1])
    _ACTIONS[action](tree, parent, path[-1], random)
    return tree, f"{action} {'.'.join(map(str, path))[:200]}"


def to_bytes(tree: Any, random: random.Random) -> bytes:
    """Return the JSON of a tree, spelled in one of the ways that JSON allows and some that it does not."""
    text = json.dumps(tree, ensure_ascii=random.random() < 0.2, indent=random.choice((None, None, 1)))
    for index, literal in enumerate(_LITERALS):
        text = text.replace(json.dumps(f"{_MARK}{index}", ensure_ascii=False), literal)
        text = text.replace(json.dumps(f"{_MARK}{index}"), literal)
    encoding = "utf-8" if random.random() < 0.99 else random.choice(("utf-16", "utf-32", "utf-8-sig"))
    return text.encode(encoding, "surrogatepass")


def hostile_value(random: random.Random) -> Any:
    """Return any value: of each type of JSON, ordinary ones and those at the edge of what others can hold."""
    match random.randrange(7):
        case 0:
            return random.choice(_NUMBERS)
        case 1:
            return random.choice(_STRINGS)
        case 2:
            return f"{_MARK}{random.randrange(len(_LITERALS))}"
        case 3:
            return random.choice((None, True, False))
        case 4:
            return [hostile_value(random) for _ in range(random.choice((0, 1, 2, 3)))]
        case 5:
            return {random.choice(_STRINGS[:40]): hostile_value(random) for _ in range(random.choice((0, 1, 2)))}
        case _:
            return [random.choice(_NUMBERS)] * random.choice((1, 2, 24, 5000))


def _choose(tree: Any, random: random.Random) -> Path:
    """Return the path of a part; those near the top are as likely as the many below them."""
    path: list[Any] = []
    while isinstance(tree, dict | list) and tree and (not path or random.random() < 0.75):
        key = random.choice(list(tree)) if isinstance(tree, dict) else random.randrange(len(tree))
        path.append(key)
        tree = tree[key]
    return tuple(path)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _replace(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    parent[key] = hostile_value(random)


def _remove(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    del parent[key]


def _add(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    if isinstance(parent, dict):
        parent[random.choice(_STRINGS)] = hostile_value(random)
    else:
        parent.insert(key, hostile_value(random))


def _repeat(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    value = parent[key]
    if isinstance(value, list):
        parent[key] = value * random.choice((0, 2, 3, 100))
    elif isinstance(value, str):
        parent[key] = value * random.choice((0, 2, 1000))
    elif isinstance(parent, list):
        parent.insert(key, copy.deepcopy(value))
    else:
        parent[f"{key} "] = copy.deepcopy(value)


def _copy_from_elsewhere(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    # A copy, for a part put into itself would have no end.
    parent[key] = copy.deepcopy(_at(tree, _choose(tree, random)))


def _swap(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    other = random.choice(list(parent)) if isinstance(parent, dict) else random.randrange(len(parent))
    parent[key], parent[other] = parent[other], parent[key]


def _rename(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    if isinstance(parent, dict):
        parent[random.choice(_STRINGS)] = parent.pop(key)
    else:
        parent[key] = {"": parent[key]}


def _wrap(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    value = parent[key]
    parent[key] = random.choice(
        (lambda: [value], lambda: {"value": value}, lambda: str(value), lambda: [value, value])
    )()


def _nudge(tree: Any, parent: Any, key: Any, random: random.Random) -> None:
    value = parent[key]
    if isinstance(value, bool) or value is None:
        parent[key] = random.choice((True, False, None, 0, 1))
    elif isinstance(value, int | float):
        # Several steps on one number may pass what a float holds.
        as_float = float(value) if abs(value) < 10**300 else value
        parent[key] = random.choice((value + 1, value - 1, -value, value * 2, as_float, value * 10**20, str(value)))
    elif isinstance(value, str):
        position = random.randrange(len(value) + 1)
        parent[key] = value[:position] + random.choice(_STRINGS) + value[position:]
    else:
        parent[key] = hostile_value(random)


_ACTIONS: dict[str, Callable[[Any, Any, Any, random.Random], None]] = {
    "replace": _replace,
    "remove": _remove,
    "add at": _add,
    "repeat": _repeat,
    "copy into": _copy_from_elsewhere,
    "swap": _swap,
    "rename": _rename,
    "wrap": _wrap,
    "nudge": _nudge,
}
