"""Which prompt a call puts before its texts."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from monograph.errors import InputError
from monograph.texts import checked_utf8

logger = logging.getLogger(__name__)

QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


def resolve_prompt(
    prompts: Mapping[str, str], default_name: str | None, prompt_name: str | None, prompt: str | None
) -> str:
    """Return the prompt of a call, "" for none.

    An explicit ``prompt`` wins over ``prompt_name``, which wins over the model's default, as in
    ``SentenceTransformer.encode``.

    Raises:
        InputError: ``prompt_name`` is not one of the model's prompts, or ``prompt`` is not a str.

    """
    if prompt is not None:
        if prompt_name is not None:
            logger.warning("prompt and prompt_name were both given: prompt is used, prompt_name is not")
        if not isinstance(prompt, str):
            raise InputError(f"prompt must be a str, got {type(prompt).__name__}")
        return checked_utf8(prompt, "prompt")
    if prompt_name is None:
        return checked_utf8(prompts.get(default_name, ""), "prompt") if default_name is not None else ""
    if not isinstance(prompt_name, str) or prompt_name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(f"prompt_name {prompt_name!r} is not a prompt of this model; it has: {known}")
    return checked_utf8(prompts[prompt_name], "prompt")


def first_known(prompts: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the first of ``names`` that the model has a prompt for, None where it has none of them."""
    return next((name for name in names if name in prompts), None)
