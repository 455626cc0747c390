"""OpenVINO's element types by the names that reports use."""

from __future__ import annotations

import openvino

_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def type_name(element_type: openvino.Type) -> str:
    """Return the name of an element type, such as "bfloat16"."""
    short: str = element_type.get_type_name()
    return _NAMES.get(short, short)
