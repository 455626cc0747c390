"""Mutations of bytes, whatever they mean."""

from __future__ import annotations

import random

_HOSTILE = (b"\x00", b"\xff", b"\x1b[2J", b"\n", b"\r\n", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b'"', b"{")


def mutate_bytes(content: bytes, random: random.Random) -> tuple[bytes, str]:
    """Return other bytes and what was done to them."""
    position = random.randrange(len(content) + 1)
    action = random.choice(("flip", "flip", "set", "insert", "delete", "cut", "repeat", "swap", "zero"))
    changed = bytearray(content)
    length = random.choice((1, 1, 2, 4, 16, 300))
    if action == "flip" and position < len(content):
        changed[position] ^= 1 << random.randrange(8)
    elif action == "set" and position < len(content):
        changed[position] = random.choice((0, 1, 127, 128, 255))
    elif action == "insert":
        changed[position:position] = random.choice(_HOSTILE)
    elif action == "delete":
        del changed[position : position + length]
    elif action == "cut":
        del changed[position:]
    elif action == "repeat":
        changed[position:position] = changed[position : position + length] * random.choice((1, 2, 50))
    elif action == "swap":
        other = random.randrange(len(content) + 1)
        part = changed[other : other + length]
        changed[position : position + len(part)] = part
    else:
        changed[position : position + length] = bytes(len(changed[position : position + length]))
    return bytes(changed), f"{action} at byte {position}"
